"""Shorter prompts that a prompt implies, and ones that it does not: what a compositional entailment loss compares.

"a red ring left of a blue square" implies "a red ring" and "a red ring and a blue square"; every picture of it shows
them too, so their cones should hold its point, and be wider.
"""

import random
from collections.abc import Sequence

from reward.language.phrases import join_pieces, left_out, split_prompt
from reward.language.reading import read_prompt
from reward.language.statements import share_kept

_TRIES = 8


def shorter_prompts(prompt: str) -> list[str]:
    """Prompts that leave out a phrase or name one thing alone, and that the prompt implies.

    Raises:
        ImportError: the prompt needs spaCy's English model and there is none; see `read_prompt`.

    Example:
        >>> shorter_prompts("a red ring left of a square")
        ['a square', 'a red ring and a square', 'a red ring', 'a ring']
    """
    pieces = split_prompt(prompt)
    kinds = ("thing", "number", "relation", "attribute")
    found = [left_out(pieces, i) for i, piece in enumerate(pieces) if piece.kind in kinds]
    for thing in read_prompt(prompt).things:
        if not thing.absent and not thing.is_place:
            found += [thing.phrase(), thing.only().phrase()]
    whole = join_pieces(pieces)
    return [text for text in dict.fromkeys(found) if text and text != whole and share_kept(prompt, text) == 1]


def nested_prompts(prompts: Sequence[str], seed: int) -> tuple[list[int], list[str], list[str]]:
    """For each prompt that has shorter ones, one of them and one of another prompt's that it does not imply.

    Returns:
        rows of the prompts that have both, ascending; the shorter prompts; those of other prompts.
    """
    rng = random.Random(seed)
    shorter = {prompt: shorter_prompts(prompt) for prompt in dict.fromkeys(prompts)}
    names = [prompt for prompt, found in shorter.items() if found]
    rows: list[int] = []
    own: list[str] = []
    foreign: list[str] = []
    for row, prompt in enumerate(prompts):
        if not shorter[prompt]:
            continue
        for _ in range(_TRIES):
            other = rng.choice(shorter[rng.choice(names)])
            if share_kept(prompt, other) < 1:
                rows.append(row)
                own.append(rng.choice(shorter[prompt]))
                foreign.append(other)
                break
    return rows, own, foreign
