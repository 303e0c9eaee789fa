"""Which phrase of a prompt a picture satisfies worst, found by scoring changed prompts.

A phrase's margin is score(prompt) - max over swaps of score(prompt with one word of the phrase swapped): positive
where the prompt's own words fit the picture better than any other. The rest of the prompt stays, so what else is wrong
with the picture, and what a phrase's bare words are worth to the model, cancel. A phrase that no word class knows is
left out instead: score(prompt) - score(prompt without it). Method and choice are ours
(benchmarks/explain_phrases/results.csv compares it with leaving out and with scoring phrases alone).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reward.language.phrases import Piece, join_pieces, left_out
from reward.language.swaps import Swap, swaps


@dataclass(frozen=True)
class PhraseScore:
    """What the scores of changed prompts say about one phrase; all in units of the reward.

    Attributes:
        text, kind: of the phrase, see `reward.language.phrases.Piece`.
        alone: score of the phrase as a prompt; None for a relation or a number, which are no prompt.
        without: score of the prompt without the phrase; None where the phrase is the whole prompt.
        best_swap: the swap with the highest score; None where there is none.
        best_score: its score.
        margin: score of the prompt less `best_score` (less `without` where there is no swap); None where neither is, or
            where no swap changes the score at all, as behind the tower's context.
    """

    text: str
    kind: str
    alone: float | None
    without: float | None
    best_swap: Swap | None
    best_score: float | None
    margin: float | None


@dataclass(frozen=True)
class PhraseScores:
    """The phrases of a prompt with their scores.

    Attributes:
        prompt_score: of the prompt as it stands.
        phrases: in the prompt's order.
        worst: the phrase of least margin; None where no phrase could be scored.
        noise: standard deviation of the scores of all swapped prompts; a margin between -noise and 0 says little.
    """

    prompt_score: float
    phrases: tuple[PhraseScore, ...]
    worst: PhraseScore | None
    noise: float

    @property
    def clearly_wrong(self) -> bool:
        """Whether the worst phrase's best swap gains more than swaps vary by."""
        return self.worst is not None and self.worst.best_swap is not None and self.worst.margin < -self.noise


def score_phrases(
    pieces: Sequence[Piece],
    score: Callable[[list[str]], np.ndarray],
    knows: Callable[[str, str], bool] = lambda old, new: True,
) -> PhraseScores:
    """Score every phrase of a prompt against one picture.

    Args:
        pieces: of the prompt, from `reward.language.phrases.split_prompt`.
        score: prompts -> (N,) scores of the picture; called once.
        knows: whether the text tower can be asked about `new` in place of `old`.
    """
    prompt = join_pieces(pieces)
    own: dict[int, list[Swap]] = {
        i: [swap for swap in swaps(pieces, i) if knows(swap.old, swap.new)]
        for i, piece in enumerate(pieces)
        if piece.kind != "link"
    }
    without = {i: left_out(pieces, i) for i in own}
    alone = {i: pieces[i].text for i in own if pieces[i].kind == "thing"}
    asked = [prompt, *without.values(), *alone.values(), *(swap.prompt for each in own.values() for swap in each)]
    asked = [text for text in dict.fromkeys(asked) if text]
    scores = dict(zip(asked, np.asarray(score(asked), dtype=float).tolist(), strict=True))
    whole = scores[prompt]
    phrases = []
    for i, changed in own.items():
        best = max(changed, key=lambda swap: scores[swap.prompt], default=None)
        rival = scores[best.prompt] if best else scores.get(without[i])
        # a phrase behind the tower's context is never read: no swap moves the score by a bit
        if changed and all(scores[swap.prompt] == whole for swap in changed):
            rival = None
        phrases.append(
            PhraseScore(
                text=pieces[i].text,
                kind=pieces[i].kind,
                alone=scores[alone[i]] if i in alone else None,
                without=scores.get(without[i]),
                best_swap=best,
                best_score=scores[best.prompt] if best else None,
                margin=whole - rival if rival is not None else None,
            )
        )
    worst = min((p for p in phrases if p.margin is not None), key=lambda p: p.margin, default=None)
    swapped = [scores[swap.prompt] for each in own.values() for swap in each]
    return PhraseScores(whole, tuple(phrases), worst, float(np.std(swapped)) if swapped else 0.0)
