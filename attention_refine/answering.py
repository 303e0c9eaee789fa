"""Short answers of a vision-language model to questions about pictures, in batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from attention_refine.vqa_layouts import VQAQuestion

# LLaVA-1.5's conversation, for a processor that brings no chat template
_PLAIN = "USER: {image}\n{text} ASSISTANT:"


class Answerer:
    """A model with its processor, asked one question a picture; greedy decoding.

    Args:
        model: an `AutoModelForImageTextToText`, on any device, in any dtype.
        processor: its own.
        instruction: said after each question, on a line of its own; "" for none.
        max_new_tokens: longest answer.

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
        self._tokenizer = processor.tokenizer
        # contrastive attention reads the last position, so every prompt must end there
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def inputs(self, questions: Sequence[VQAQuestion]) -> Any:
        """The processor's batch of the questions, on the model's device.

        Raises:
            OSError: a picture cannot be read.
        """
        pictures = []
        for question in questions:
            with Image.open(question.image) as picture:
                pictures.append(picture.convert("RGB"))
        prompts = [self._prompt(f"{q.text}\n{self.instruction}" if self.instruction else q.text) for q in questions]
        # some templates write the first token themselves
        begun = str(self._tokenizer.bos_token)
        options = {"add_special_tokens": False} if prompts[0].startswith(begun) else {}
        # one list a prompt: some processors take a flat list for the pictures of one prompt
        batch = self.processor(
            images=[[picture] for picture in pictures], text=prompts, return_tensors="pt", padding=True, **options
        )
        return batch.to(self.model.device, self.model.dtype)

    def _prompt(self, text: str) -> str:
        if not getattr(self.processor, "chat_template", None):
            return _PLAIN.format(image=self.processor.image_token, text=text)
        said = [{"type": "image"}, {"type": "text", "text": text}]
        return self.processor.apply_chat_template([{"role": "user", "content": said}], add_generation_prompt=True)

    @torch.no_grad()
    def answer_inputs(self, inputs: Any) -> list[str]:
        """Answers to a batch of `inputs`."""
        # None silences generate's warnings where the model's own generation config would sample
        tokens = self.model.generate(
            **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1, temperature=None, top_p=None,
            top_k=None, pad_token_id=self._tokenizer.pad_token_id,
        )  # fmt: skip
        texts = self._tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def answers(self, questions: Sequence[VQAQuestion]) -> list[str]:
        """Answers to one batch of questions, in order."""
        return self.answer_inputs(self.inputs(questions))


def batches(questions: Sequence[VQAQuestion], size: int) -> Iterator[Sequence[VQAQuestion]]:
    """The questions, `size` at a time.

    Raises:
        ValueError: `size` below 1.
    """
    if size < 1:
        raise ValueError(f"Expected a batch size of at least 1, got {size}.")
    for start in range(0, len(questions), size):
        yield questions[start : start + size]
