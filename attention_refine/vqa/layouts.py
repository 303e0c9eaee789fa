"""Read questions about pictures from VQAv2, GQA, OK-VQA, VizWiz, TextVQA and DocVQA, or from your own table.

The folder of a data set contains its published files, unpacked and not renamed.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_refine.vqa.metrics import anls, exact_match, normalise_answer, vqa_accuracy
from reward.files.quoting import shortened

_SHORT = "Answer the question using a single word or phrase."
_UNANSWERABLE = (
    "When the provided information is insufficient, respond with 'Unanswerable'.\n" + _SHORT
)  # these instructions are those of LLaVA-1.5
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class VQAQuestion:
    """One question about a picture.

    Attributes:
        id: unique in its data set.
        image: path of the picture.
        text: the question.
        answers: the right answers, one per annotator; empty if the split has no answers.
    """

    id: str
    image: Path
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class VQADataset:
    """How a data set is read, asked and scored.

    Attributes:
        read: (folder, split) -> questions.
        splits: the splits that have answers; the first is the default.
        metric: name of the score.
        score: (answer, right answers) -> score in [0, 1].
        instruction: text added after each question.
    """

    read: Callable[[Path, str], list[VQAQuestion]]
    splits: tuple[str, ...]
    metric: str
    score: Callable[[str, tuple[str, ...]], float]
    instruction: str


def load_questions(name: str, path: Path, split: str | None = None, limit: int | None = None) -> list[VQAQuestion]:
    """Load the questions of a data set, in the order of its file.

    Args:
        name: one of `DATASETS`.
        path: folder of the data set; for "table" a file (.csv, .tsv, .jsonl) with the columns image, question, answer.
        split: None uses the first of the data set's `splits`.
        limit: load only this many, evenly spread over the file, because files may group questions by picture or kind.

    Raises:
        ValueError: the name or split is unknown, there are no questions, or a question has no answer or occurs twice.
        FileNotFoundError: a file or the picture of a question does not exist.

    Example:
        >>> questions = load_questions("gqa", Path("gqa"))  # doctest: +SKIP
    """
    dataset = find_dataset(name)
    split = split or dataset.splits[0]
    if split not in dataset.splits:
        raise ValueError(f"Expected a split of {name} among {', '.join(dataset.splits)}, got {split!r}.")
    questions = dataset.read(Path(path), split)
    if not questions:
        raise ValueError(f"Expected questions in {path}, found none.")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"{path}: expected every question once, but the id {shortened(question.id)} occurs twice.")
        if not question.answers:
            raise ValueError(
                f"{path}: expected answers to every question, but {shortened(question.id)} has none. Use a split with "
                "answers."
            )
        seen.add(question.id)
    if limit is not None and limit < len(questions):
        questions = [questions[i * len(questions) // limit] for i in range(limit)]
    return questions


def find_dataset(name: str) -> VQADataset:
    """The data set with this name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in DATASETS:
        raise ValueError(f"Expected a data set among {', '.join(DATASETS)}, got {name!r}.")
    return DATASETS[name]


def _read_vqav2(folder: Path, split: str) -> list[VQAQuestion]:
    questions = _json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json")
    annotations = _json(folder / f"v2_mscoco_{split}_annotations.json")
    return _join_coco(folder, split, questions, annotations)


def _read_okvqa(folder: Path, split: str) -> list[VQAQuestion]:
    # the official evaluation uses `answer`, the stemmed form, and not `raw_answer`
    questions = _json(folder / f"OpenEnded_mscoco_{split}_questions.json")
    annotations = _json(folder / f"mscoco_{split}_annotations.json")
    return _join_coco(folder, split, questions, annotations)


def _join_coco(folder: Path, split: str, questions: Any, annotations: Any) -> list[VQAQuestion]:
    answers = {a["question_id"]: tuple(each["answer"] for each in a["answers"]) for a in annotations["annotations"]}
    return [
        VQAQuestion(
            str(q["question_id"]),
            _picture(folder, split, f"COCO_{split}_{q['image_id']:012d}.jpg"),
            q["question"],
            answers.get(q["question_id"], ()),
        )
        for q in questions["questions"]
    ]


def _read_gqa(folder: Path, split: str) -> list[VQAQuestion]:
    found = _json(folder / f"{split}_questions.json")
    return [
        VQAQuestion(key, _picture(folder, "images", f"{q['imageId']}.jpg"), q["question"], _one(q.get("answer")))
        for key, q in found.items()
    ]


def _read_vizwiz(folder: Path, split: str) -> list[VQAQuestion]:
    # the file has no ids, but each picture has one question
    return [
        VQAQuestion(
            q["image"],
            _picture(folder, split, q["image"]),
            q["question"],
            tuple(each["answer"] for each in q.get("answers", ())),
        )
        for q in _json(folder / f"{split}.json")
    ]


def _read_textvqa(folder: Path, split: str) -> list[VQAQuestion]:
    return [
        VQAQuestion(
            str(q["question_id"]),
            _picture(folder, "train_images", f"{q['image_id']}.jpg"),  # the pictures of both splits are in this folder
            q["question"],
            tuple(q.get("answers", ())),
        )
        for q in _json(folder / f"TextVQA_0.5.1_{split}.json")["data"]
    ]


def _read_docvqa(folder: Path, split: str) -> list[VQAQuestion]:
    file = next((f for f in (folder / f"{split}_v1.0_withQT.json", folder / f"{split}_v1.0.json") if f.is_file()), None)
    found = _json(file or folder / f"{split}_v1.0.json")["data"]
    return [
        # "image" is "documents/xyz.png"
        VQAQuestion(str(q["questionId"]), _picture(folder, "", q["image"]), q["question"], tuple(q.get("answers", ())))
        for q in found
    ]


def _read_table(file: Path, split: str) -> list[VQAQuestion]:
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in _text(file).splitlines() if line.strip()]
    elif file.suffix in (".csv", ".tsv"):
        rows = list(csv.DictReader(io.StringIO(_text(file)), delimiter="\t" if file.suffix == ".tsv" else ","))
    else:
        raise ValueError(f"Expected a table that ends in .csv, .tsv or .jsonl, got {file}.")
    missing = {"image", "question", "answer"} - set(rows[0] if rows else ())
    if rows and missing:
        raise ValueError(f"{file}: expected the columns image, question, answer; missing: {', '.join(sorted(missing))}")
    return [
        VQAQuestion(str(i), _picture(file.parent, "", row["image"]), row["question"], _one(row["answer"]))
        for i, row in enumerate(rows)
    ]


def _one(answer: Any) -> tuple[str, ...]:
    if isinstance(answer, list):
        return tuple(map(str, answer))
    return (str(answer),) if answer not in (None, "") else ()


def _picture(folder: Path, inner: str, name: str) -> Path:
    """Path of a picture, in the folder `inner` of the data set or directly in `folder`.

    Raises:
        FileNotFoundError: it is in neither.
    """
    places = [folder / inner / name, folder / name]
    for place in places:
        # os.path's own: a name longer than the file system allows is no file either
        if os.path.isfile(place):
            return place
    raise FileNotFoundError(
        f"Expected the picture {shortened(places[0])}, but it does not exist. Unpack the data set's pictures there."
    )


def _text(file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"Expected the file {file}, but it does not exist. Put the data set's file there.")
    return file.read_text(encoding="utf-8-sig")


def _json(file: Path) -> Any:
    return json.loads(_text(file))


def _vqa(answer: str, given: Iterable[str]) -> float:
    # LLaVA normalises its answers before it submits them; the official script then compares
    return vqa_accuracy(normalise_answer(answer), tuple(given))


def _textvqa(answer: str, given: Iterable[str]) -> float:
    return vqa_accuracy(answer, tuple(given), as_given_if_unanimous=False)


_COCO = ("val2014", "train2014")
DATASETS = {
    "vqav2": VQADataset(_read_vqav2, _COCO, "VQA accuracy", _vqa, _SHORT),
    "gqa": VQADataset(
        _read_gqa, ("testdev_balanced", "val_balanced", "train_balanced", "testdev_all", "val_all"), "exact match",
        exact_match, _SHORT,
    ),
    "okvqa": VQADataset(_read_okvqa, _COCO, "VQA accuracy", _vqa, _SHORT),
    "vizwiz": VQADataset(_read_vizwiz, ("val", "train"), "VQA accuracy", _vqa, _UNANSWERABLE),
    "textvqa": VQADataset(_read_textvqa, ("val", "train"), "VQA accuracy", _textvqa, _SHORT),
    "docvqa": VQADataset(_read_docvqa, ("val", "train"), "ANLS", anls, _SHORT),
    "table": VQADataset(_read_table, ("all",), "exact match", exact_match, ""),
}  # fmt: skip
