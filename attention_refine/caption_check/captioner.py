"""A vision-language model as a witness: how likely it is to answer yes, and what it says it sees.

Any `AutoModelForImageTextToText` with its `AutoProcessor`; everything goes through `generate`, so decoder-only and
encoder-decoder models, and wrappers around `generate`, are all the same.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attention_refine.vlm.asking import conversation_inputs, generate_greedily, new_texts

_YES, _NO = ("yes", "Yes", "YES", " yes", " Yes"), ("no", "No", "NO", " no", " No")


class Captioner:
    """Answers and captions of one model.

    Args:
        model: an `AutoModelForImageTextToText`, on any device, in any dtype.
        processor: its own.
        batch_size: pictures at a time.
        max_new_tokens: longest caption.
        around: makes the context that the model generates in, from the model, such as contrastive attention; None:
            the bare model.

    Raises:
        ValueError: the tokenizer has no single token for yes, or none for no.

    Example:
        >>> captioner = Captioner(*load_model("llava-hf/llava-1.5-7b-hf"))  # doctest: +SKIP
        >>> captioner.captions([Image.open("ring.png")], "Describe the picture.")  # doctest: +SKIP
        ['a red ring']
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        batch_size: int = 16,
        max_new_tokens: int = 64,
        around: Callable[[Any], contextlib.AbstractContextManager] | None = None,
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1:
            raise ValueError(
                f"Expected batch_size and max_new_tokens of at least 1, got {batch_size} and {max_new_tokens}."
            )
        self.model, self.processor = model.eval(), processor
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self._around = around or (lambda model: contextlib.nullcontext())
        self.yes_tokens, self.no_tokens = answer_tokens(getattr(processor, "tokenizer", processor))

    @torch.no_grad()
    def yes_probability(self, images: Sequence[Image.Image], questions: Sequence[str]) -> Tensor:
        """P(yes) / (P(yes) + P(no)) for the first token of the answer; yes and no in whatever case and spacing.

        Args:
            images: N pictures.
            questions: N questions, one a picture.

        Returns:
            (N,) float32 on the CPU, 0 to 1.

        Raises:
            ValueError: N differs, or the model's logits are not finite.
        """
        if len(images) != len(questions):
            raise ValueError(f"Expected one question a picture, got {len(questions)} for {len(images)} pictures.")
        found = []
        for chosen in self._batches(len(images)):
            inputs = self._inputs([images[i] for i in chosen], [questions[i] for i in chosen])
            logits = self._generate(inputs, 1, output_logits=True, return_dict_in_generate=True).logits[0].float()
            yes, no = logits[:, self.yes_tokens].logsumexp(1), logits[:, self.no_tokens].logsumexp(1)
            found.append(torch.sigmoid(yes - no).cpu())
        probabilities = torch.cat(found) if found else torch.zeros(0)
        if not torch.isfinite(probabilities).all():
            raise ValueError("Expected finite logits from the captioner, got NaN. Load it in float32 or bfloat16.")
        return probabilities

    @torch.no_grad()
    def captions(self, images: Sequence[Image.Image], instruction: str) -> list[str]:
        """What the model says of each picture, by greedy decoding; it is told the instruction alone."""
        found: list[str] = []
        for chosen in self._batches(len(images)):
            inputs = self._inputs([images[i] for i in chosen], [instruction] * len(chosen))
            tokens = self._generate(inputs, self.max_new_tokens)
            found += new_texts(self.model, self.processor, inputs, tokens)
        return found

    def _batches(self, count: int) -> Iterator[range]:
        for start in range(0, count, self.batch_size):
            yield range(start, min(start + self.batch_size, count))

    def _inputs(self, images: list[Image.Image], texts: list[str]) -> Any:
        return conversation_inputs(self.model, self.processor, images, texts)

    def _generate(self, inputs: Any, new_tokens: int, **options: Any) -> Any:
        with self._around(self.model):
            return generate_greedily(self.model, self.processor, inputs, new_tokens, **options)


def answer_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids of the tokens that are a whole yes, and of those that are a whole no, in whatever case and spacing.

    Raises:
        ValueError: there is no such token for one of the two.
    """
    found = []
    for words in (_YES, _NO):
        ids = {_single_token(tokenizer, word) for word in words} - {None}
        if not ids:
            raise ValueError(
                f"Expected a tokenizer with a single token for one of {', '.join(map(repr, words))}, got none. P(yes) "
                "cannot be read from this model's next token; take another captioner."
            )
        found.append(sorted(ids))
    return found[0], found[1]


def _single_token(tokenizer: Any, word: str) -> int | None:
    ids = tokenizer.encode(word, add_special_tokens=False)
    # SentencePiece writes " yes" as the mark of a space and "yes"
    ids = [i for i in ids if tokenizer.decode([i]).strip()]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if len(ids) != 1 or ids[0] == unknown or tokenizer.decode(ids).strip().lower() != word.strip().lower():
        return None
    return ids[0]
