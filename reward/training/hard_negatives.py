"""Pairs with one fact of the prompt swapped: their pictures are the same, their targets lower by what the swap breaks.

Human scores say that a picture fits its prompt better or worse; they hardly ever say that it fits "left of" and not
"right of". A swap says so.
"""

import random
from collections.abc import Sequence

from reward.language.phrases import split_prompt
from reward.language.statements import share_kept
from reward.language.swaps import Swap, swaps

_TRIES = 4


def hard_negatives(
    prompts: Sequence[str], scores: Sequence[float], share: float, seed: int
) -> tuple[list[int], list[str], list[float]]:
    """Swapped prompts for a share of the pairs that people rate above the middle.

    A picture that shows its prompt badly may show the swapped one better; a good one cannot.

    Args:
        prompts, scores: of the training pairs, scores in [0, 1].
        share: of the pairs with a score of at least 0.5, which of them get one; 0 to 1.
        seed: of the choice.

    Returns:
        rows of the pairs, their swapped prompts, and targets: score times the share of the swapped prompt's statements
        that the prompt makes too.

    Raises:
        ImportError: the prompts need spaCy's English model and there is none; the message has the command.

    Example:
        >>> hard_negatives(["a red ring above a square"], [0.9], 1.0, seed=1)  # doctest: +SKIP
        ([0], ['a red ring below a square'], [0.675])
    """
    rng = random.Random(seed)
    rows: list[int] = []
    changed: list[str] = []
    targets: list[float] = []
    for row, (prompt, score) in enumerate(zip(prompts, scores, strict=True)):
        if score < 0.5 or rng.random() >= share:
            continue
        for _ in range(_TRIES):
            swap = _one_swap(prompt, rng)
            kept = 1.0 if swap is None else share_kept(prompt, swap.prompt)
            if swap is not None and kept < 1:  # "a red ring" is true of two
                rows.append(row)
                changed.append(swap.prompt)
                targets.append(float(score) * kept)
                break
    return rows, changed, targets


def _one_swap(prompt: str, rng: random.Random) -> Swap | None:
    """A swap of one phrase, all kinds of phrases alike: relations are few and adjectives have many swaps."""
    pieces = split_prompt(prompt)
    places = [place for place, piece in enumerate(pieces) if piece.kind not in ("link", "style")]
    by_kind: dict[str, list[int]] = {}
    for place in places:
        by_kind.setdefault(pieces[place].kind, []).append(place)
    kinds = list(by_kind)
    rng.shuffle(kinds)
    for kind in kinds:
        found = list(swaps(pieces, rng.choice(by_kind[kind])))
        if found:
            return rng.choice(found)
    return None
