"""Ask a vision-language model one text per picture, with its chat template and greedy decoding."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

_PLAIN = "USER: {image}\n{text} ASSISTANT:"  # LLaVA-1.5's prompt, for a processor without a chat template


def conversation_inputs(model: Any, processor: Any, images: Sequence[Image.Image], texts: Sequence[str]) -> Any:
    """The processor's batch of N pictures and N texts, on the model's device and in its dtype.

    The batch is padded on the left, so that the last position is the last token of every prompt. The tokenizer's own
    padding side is restored afterwards.

    Args:
        model, processor: the model and its own processor.
        images: N pictures.
        texts: N texts, one per picture.
    """
    with _left_padding(_tokenizer(processor)):
        if getattr(processor, "chat_template", None):
            batch = processor.apply_chat_template(
                [_conversation(image, text) for image, text in zip(images, texts, strict=True)],
                add_generation_prompt=True, tokenize=True, return_dict=True,
                processor_kwargs={"return_tensors": "pt", "padding": True},
            )  # fmt: skip
        else:
            token = getattr(processor, "image_token", None)
            texts = [_PLAIN.format(image=token, text=text) for text in texts] if token else list(texts)
            batch = processor(images=list(images), text=texts, return_tensors="pt", padding=True)
    return batch.to(model.device, model.dtype)


def generate_greedily(model: Any, processor: Any, inputs: Any, new_tokens: int, **options: Any) -> Any:
    """Call `model.generate` without sampling and beam search, whatever the model's generation config says.

    Args:
        model, processor: the model and its own processor.
        inputs: a batch of `conversation_inputs`.
        new_tokens: largest number of new tokens.
        options: further options of `model.generate`.

    Returns:
        what `model.generate` returns.
    """
    # None avoids warnings about sampling options
    greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
    tokenizer = _tokenizer(processor)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return model.generate(**inputs, max_new_tokens=new_tokens, pad_token_id=pad, **greedy, **options)


def new_texts(model: Any, processor: Any, inputs: Any, tokens: torch.Tensor) -> list[str]:
    """The generated texts without the prompts and without special tokens, with single spaces between words."""
    if not getattr(model.config, "is_encoder_decoder", False):
        tokens = tokens[:, inputs["input_ids"].shape[1] :]
    texts = _tokenizer(processor).batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def _tokenizer(processor: Any) -> Any:
    return getattr(processor, "tokenizer", processor)


def _conversation(image: Image.Image, text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


@contextlib.contextmanager
def _left_padding(tokenizer: Any) -> Iterator[None]:
    side, pad = tokenizer.padding_side, tokenizer.pad_token
    tokenizer.padding_side = "left"
    if pad is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        yield
    finally:
        tokenizer.padding_side = side
        if pad is None:
            tokenizer.pad_token = None
