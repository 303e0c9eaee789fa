"""Ask a vision-language model questions about pictures, in batches, for short answers."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from attention_refine.vlm.asking import conversation_inputs, generate_greedily, new_texts
from attention_refine.vqa.layouts import VQAQuestion


class Answerer:
    """A model with its processor that answers one question per picture, by greedy decoding.

    Args:
        model: an `AutoModelForImageTextToText`, on any device, in any dtype.
        processor: the model's own processor.
        instruction: text added after each question on its own line; "" adds nothing.
        max_new_tokens: longest answer in tokens.

    Raises:
        ValueError: `max_new_tokens` is below 1.

    Example:
        >>> answerer = Answerer(*load_model("llava-hf/llava-1.5-7b-hf"))  # doctest: +SKIP
        >>> answerer.answers(questions[:8])  # doctest: +SKIP
        ['yes', 'blue', ...]
    """

    def __init__(self, model: Any, processor: Any, instruction: str = "", max_new_tokens: int = 16) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"Expected max_new_tokens of at least 1, got {max_new_tokens}.")
        self.model, self.processor = model.eval(), processor
        self.instruction, self.max_new_tokens = instruction, max_new_tokens

    def inputs(self, questions: Sequence[VQAQuestion]) -> Any:
        """The processor's batch for some questions, on the model's device.

        Raises:
            OSError: a picture cannot be read.
        """
        pictures = []
        for question in questions:
            with Image.open(question.image) as picture:
                pictures.append(picture.convert("RGB"))
        texts = [f"{q.text}\n{self.instruction}" if self.instruction else q.text for q in questions]
        return conversation_inputs(self.model, self.processor, pictures, texts)

    @torch.no_grad()
    def answer_inputs(self, inputs: Any) -> list[str]:
        """The answers to a batch that `inputs` made."""
        tokens = generate_greedily(self.model, self.processor, inputs, self.max_new_tokens)
        return new_texts(self.model, self.processor, inputs, tokens)

    def answers(self, questions: Sequence[VQAQuestion]) -> list[str]:
        """The answers to one batch of questions, in order. Errors as `inputs`."""
        return self.answer_inputs(self.inputs(questions))


def batches(questions: Sequence[VQAQuestion], size: int) -> Iterator[Sequence[VQAQuestion]]:
    """Yield the questions, `size` at a time.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"Expected a batch size of at least 1, got {size}.")
    for start in range(0, len(questions), size):
        yield questions[start : start + size]
