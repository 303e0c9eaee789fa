"""What `explain` found about one pair, and its table of phrases in words."""

from dataclasses import dataclass

import numpy as np

from reward.explanation.phrase_scores import PhraseScores
from reward.explanation.poincare_plane import ConePlane
from reward.model.head import HyperAlignOutput


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` found.

    Attributes:
        prompt: as it was asked.
        image: (H, W, 3) in [0, 1].
        output: score, cosine, distance, angles and modulation; each ().
        plane: text, image and cone in their common hyperbolic plane.
        phrases: scores of the prompt's phrases.
        saliency: (H, W) in [0, 1], where the score's gradient is.
        sentences: the diagnosis in words.
    """

    prompt: str
    image: np.ndarray
    output: HyperAlignOutput
    plane: ConePlane
    phrases: PhraseScores
    saliency: np.ndarray
    sentences: tuple[str, ...]

    @property
    def worst_phrase(self) -> str | None:
        """The phrase that the picture satisfies worst; None where none could be scored."""
        return self.phrases.worst.text if self.phrases.worst else None

    def __str__(self) -> str:
        return "\n".join([*self.sentences, "", *_table(self.phrases)])


def _table(phrases: PhraseScores) -> list[str]:
    rows = [("phrase", "alone", "left out", "best swap", "score then", "margin")]
    for phrase in phrases.phrases:
        swap = f"{phrase.best_swap.old} -> {phrase.best_swap.new}" if phrase.best_swap else ""
        numbers = (phrase.alone, phrase.without, phrase.best_score, phrase.margin)
        alone, without, best, margin = ("" if n is None else f"{n:z.2f}" for n in numbers)
        rows.append((phrase.text, alone, without, swap, best, margin))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
