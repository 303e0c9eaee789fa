"""Questions that a chat model writes: the captioner itself, or any other one; kept as a file in DSG's layout."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from attention_refine.caption_check.question_files import read_questions
from attention_refine.caption_check.questions import Questions
from attention_refine.vlm.asking import generate_greedily
from attention_refine.vlm.loading import load_model
from reward.files.writing import write_text

FILE_NAME = "questions.json"
THE_CAPTIONER = "captioner"
_MOST_TOKENS = 512
_INSTRUCTION = """Take the description of a picture apart into facts: things, their attributes, their numbers, how they
stand to one another, writing in the picture. Ask one yes-or-no question about each fact; the right answer is yes.
Write one line a question: its number, the kind of fact, the numbers of the questions that must be answered yes before
it (0 for none), the question.

Description: two blue cars in front of a house
1 | entity - whole (cars) | 0 | Are there cars?
2 | other - count (cars, ==2) | 1 | Are there two cars?
3 | attribute - color (cars, blue) | 1 | Are the cars blue?
4 | entity - whole (house) | 0 | Is there a house?
5 | relation - spatial (cars, house, in front of) | 1,4 | Are the cars in front of the house?

Description: {prompt}
"""
_LINE = re.compile(r"^\W*(\d+)\s*\|([^|]*)\|([^|]*)\|\s*(\S[^|]*\?)\W*$")


def write_questions(
    prompts: Iterable[str], writer: tuple[Any, Any], path: Path
) -> tuple[dict[str, Questions], list[str]]:
    """Let a model write the questions of prompts that the file at `path` does not have; the file is rewritten.

    Args:
        prompts: each asked for once.
        writer: (model, processor or tokenizer) of `load_writer`.
        path: ends in .json; DSG's layout, which `read_questions` reads and people can edit.

    Returns:
        questions by prompt, and the prompts for which nothing that is one was written.

    Raises:
        ValueError: the file is there and is none of questions.
    """
    items = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = set(read_questions(path)) if items else set()
    failed = []
    for prompt in dict.fromkeys(prompts):
        if prompt in known:
            continue
        item = parse_answer(prompt, _answer(writer, _INSTRUCTION.replace("{prompt}", prompt)))
        if item["qid2question"]:
            items[str(len(items) + 1)] = item
        else:
            failed.append(prompt)
    if not items:
        return {}, failed
    write_text(path, json.dumps(items, indent=1, ensure_ascii=False) + "\n")
    return read_questions(path), failed


def parse_answer(prompt: str, answer: str) -> dict[str, Any]:
    """A model's lines as one item of DSG's layout; lines of another form are left out, as are parents that are none.

    Example:
        >>> parse_answer("a ring", "1 | entity - whole (ring) | 0 | Is there a ring?")["qid2question"]
        {'1': 'Is there a ring?'}
    """
    item: dict[str, Any] = {"prompt": prompt, "qid2tuple": {}, "qid2dependency": {}, "qid2question": {}}
    for match in filter(None, map(_LINE.match, answer.splitlines())):
        number, kind, parents, question = (part.strip() for part in match.groups())
        if number in item["qid2question"]:
            continue
        # a question can only hang on earlier ones, so that none hangs on itself
        before = [parent for parent in re.findall(r"\d+", parents) if parent in item["qid2question"]]
        item["qid2question"][number] = question
        item["qid2tuple"][number] = kind
        item["qid2dependency"][number] = [int(parent) for parent in before] or [0]
    return item


def load_writer(source: str, device: Any = None) -> tuple[Any, Any]:
    """A model that writes, with its processor or tokenizer, from a folder or hub id; safetensors only.

    Raises:
        OSError: no such folder or id, or no safetensors in it.
    """
    from transformers import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoConfig,
        AutoModelForCausalLM,
        AutoTokenizer,
    )

    if type(AutoConfig.from_pretrained(source)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return load_model(source, device)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.float32 if device.type == "cpu" else "auto"
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(source)


@torch.no_grad()
def _answer(writer: tuple[Any, Any], text: str) -> str:
    model, processor = writer
    tokenizer = getattr(processor, "tokenizer", processor)
    if getattr(processor, "chat_template", None):
        content = [{"type": "text", "text": text}] if tokenizer is not processor else text
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False).to(model.device)
    tokens = generate_greedily(model, processor, inputs, _MOST_TOKENS)
    if not getattr(model.config, "is_encoder_decoder", False):
        tokens = tokens[:, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(tokens[0], skip_special_tokens=True)
