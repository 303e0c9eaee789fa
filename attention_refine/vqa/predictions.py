"""Answers of one row to all questions: in parts that an interrupted run need not repeat and processes share."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch

from attention_refine.vqa.answering import Answerer, batches
from attention_refine.vqa.layouts import VQAQuestion
from reward.files.writing import write_text
from reward.parallel.processes import Processes
from reward.scoring.parts import PartFolder, Record

# a part is what a killed run loses at most
PART_BATCHES = 4
# part of every key: a change of how questions are asked or answers are scored needs another number
_VERSION = 1
_SAMPLED = 4096  # numbers of each weight that tell one model from another


class Row(Protocol):
    """A way for the model to run: its name, what its answers depend on (JSON), and the context it answers in."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Any: ...

    def around(self, model: Any) -> AbstractContextManager: ...


def predict(
    answerer: Answerer,
    row: Row,
    questions: Sequence[VQAQuestion],
    score: Callable[[str, tuple[str, ...]], float],
    folder: Path,
    *,
    batch_size: int,
    model_key: str,
    processes: Processes | None = None,
    advance: Callable[[int], object] = lambda questions: None,
) -> list[Record]:
    """Records (id, image, question, answer, score) of all questions, in order; what is on disk is not asked again.

    They are kept in `folder` as ROW-KEY.jsonl, where KEY tells model, questions, settings of the row and batch size.
    The same questions are in the same batches in every number of processes.

    Args:
        score: (answer, answers given) -> 0 to 1.
        model_key: of `model_digest`.
        processes: of this run; all must see the folder. In those other than the main one the list is empty.
        advance: told how many questions more are done.
    """
    processes = processes or Processes()
    key = _digest([model_key, answerer.instruction, answerer.max_new_tokens, batch_size, row.settings, questions])
    file = folder / f"{row.name}-{key[:12]}.jsonl"
    if file.is_file():
        advance(len(questions))
        return _read(file) if processes.is_main else []
    parts = list(enumerate(batches(questions, batch_size * PART_BATCHES)))
    kept = PartFolder(file)
    with row.around(answerer.model):
        for index, part in parts:
            if index % processes.count != processes.rank:
                continue
            if not kept.has(index, key):
                kept.write(index, key, list(_answered(answerer, part, score, batch_size)))
            advance(len(part))
    processes.wait()
    if not processes.is_main:
        return []
    records = [record for index, _ in parts for record in kept.read(index, key)]
    write_text(file, "".join(json.dumps(record) + "\n" for record in records))
    kept.remove()
    return records


def model_digest(model: Any) -> str:
    """What tells a model from another: its configuration, dtype, and some thousand numbers of each weight."""
    digest = hashlib.sha256(f"{type(model).__name__} {model.dtype} {model.config.to_json_string()}".encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:32]


def _answered(answerer: Answerer, part: Sequence[VQAQuestion], score: Any, batch_size: int) -> Iterator[Record]:
    for batch in batches(part, batch_size):
        for question, answer in zip(batch, answerer.answers(batch), strict=True):
            yield {
                "id": question.id, "image": question.image.name, "question": question.text, "answer": answer,
                "score": score(answer, question.answers),
            }  # fmt: skip


def _digest(values: list[Any]) -> str:
    text = json.dumps([_VERSION, *values], default=lambda question: [question.id, str(question.image), question.text,
                                                                     question.answers])  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(file: Path) -> list[Record]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
