"""Answer all questions for one row, in parts that are saved for an interrupted run and shared between processes."""

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

# batches per part; a killed run loses at most one part
PART_BATCHES = 4
# Part of every key. Increase it when questions are asked or answers are scored in another way.
_VERSION = 1
_SAMPLED = 4096  # numbers of each weight that enter a model's digest


class Row(Protocol):
    """A way to run the model: a name, the settings that its answers depend on (JSON), and a context to answer in."""

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
    """Answer all questions and score the answers. Saved answers are reused.

    The answers are saved in `folder` as ROW-KEY.jsonl. KEY is a digest of the model, the questions, the settings of the
    row and the batch size. The batches are the same for any number of processes.

    Args:
        answerer: the model with its processor.
        row: how the model runs.
        questions: the questions.
        score: (answer, right answers) -> score in [0, 1].
        folder: folder for the answers.
        batch_size: questions answered at once.
        model_key: the model's `model_digest`.
        processes: the processes of this run; all must see `folder`.
        advance: called with the number of further questions that are done.

    Returns:
        records (id, image, question, answer, score) in the order of the questions; in other processes than the main
        one an empty list.
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
    """A digest that identifies a model: its configuration, dtype, and a few thousand numbers of each weight."""
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
