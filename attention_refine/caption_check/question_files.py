"""A user's own questions, from a CSV or JSON file in the layout of the Davidsonian Scene Graph (DSG)."""

import csv
import heapq
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attention_refine.caption_check.questions import Question, Questions
from reward.files.quoting import quoted, shortened

_CSV_NAMES = {
    "prompt": ("prompt", "text"),
    "question": ("question", "question_natural_language"),
    "id": ("question_id", "proposition_id"),
    "dependencies": ("dependencies", "dependency"),
    "kind": ("kind", "category_broad"),
}


def read_questions(path: Path) -> dict[str, Questions]:
    """Questions by prompt from a CSV or JSON file.

    CSV, a row a question, DSG-1k's columns or ours in brackets: item_id [id], text [prompt], proposition_id
    [question_id], dependency [dependencies], question_natural_language [question], category_broad [kind]. A dependency
    names proposition_ids of the same prompt, separated by commas; 0 or nothing for none. JSON, as DSG's code makes it:
    {item_id: {"prompt": TEXT, "qid2question": {ID: TEXT}, "qid2dependency": {ID: [ID]}}}, or a list of
    {"id", "prompt", "questions": [TEXT], "dependencies": [[NUMBER]]}, where questions are numbered from 1.

    Args:
        path: ends in .csv or .json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix or layout, a dependency on an unknown question, or a circle; the message says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of questions, found none at {path}.")
    read = {".csv": _from_csv, ".json": _from_json}.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"Expected questions in a file ending in .csv or .json, got {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 but got {error}; save the file as UTF-8.") from error
    found: dict[str, Questions] = {}
    for where, prompt, rows in read(text, str(path)):
        if prompt in found:
            raise ValueError(
                f"{where}: expected each prompt once, got {quoted(prompt)} again; put its questions together."
            )
        found[prompt] = _in_order(rows, where)
    if not found:
        raise ValueError(f"{path}: expected questions, got none.")
    return found


_Row = tuple[str, str, str, list[str]]  # its id, text, kind, the ids that it depends on


def _from_csv(text: str, path: str) -> Iterable[tuple[str, str, list[_Row]]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    present = reader.fieldnames or []
    columns = {role: next((name for name in names if name in present), None) for role, names in _CSV_NAMES.items()}
    for role in ("prompt", "question"):
        if columns[role] is None:
            raise ValueError(
                f"{path}: expected a column {' or '.join(_CSV_NAMES[role])}, got "
                f"{shortened(', '.join(present)) or 'none'}."
            )
    item = next((name for name in ("item_id", "id") if name in present), columns["prompt"])
    groups: dict[str, tuple[str, list[_Row]]] = {}
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        cell = {role: (row.get(name) or "").strip() if name else "" for role, name in columns.items()}
        if not cell["prompt"] or not cell["question"]:
            given = f"{quoted(cell['prompt'])} and {quoted(cell['question'])}"
            raise ValueError(f"{where}: expected a prompt and a question, got {given}; fill them in.")
        prompt, rows = groups.setdefault(row.get(item) or cell["prompt"], (cell["prompt"], []))
        if prompt != cell["prompt"]:
            raise ValueError(
                f"{where}: expected the prompt of the rows of {quoted(row.get(item))} before, {quoted(prompt)}."
            )
        parents = [parent.strip() for parent in cell["dependencies"].replace(";", ",").split(",")]
        rows.append((cell["id"] or str(len(rows) + 1), cell["question"], cell["kind"], parents))
    for key, (prompt, rows) in groups.items():
        yield f"{path}, {quoted(key)}", prompt, rows


def _from_json(text: str, path: str) -> Iterable[tuple[str, str, list[_Row]]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON but got {error}; mend the file.") from error
    items = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    for key, item in items:
        where = f"{path}, {quoted(key)}"
        try:
            yield where, _text(item["prompt"]), _json_rows(item)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where}: expected prompt and questions (or DSG's qid2question and qid2dependency), got trouble: "
                f"{shortened(repr(error))}."
            ) from error


def _json_rows(item: Mapping[str, Any]) -> list[_Row]:
    if "qid2question" in item:
        questions = {str(name): text for name, text in item["qid2question"].items()}
        parents = {str(name): _ids(value) for name, value in item.get("qid2dependency", {}).items()}
        kinds = {str(name): str(value).partition(" - ")[0].strip() for name, value in item.get("qid2tuple", {}).items()}
    else:
        questions = {str(number): text for number, text in enumerate(item["questions"], start=1)}
        dependencies = item.get("dependencies", [])
        if isinstance(dependencies, Mapping):
            parents = {str(name): _ids(value) for name, value in dependencies.items()}
        else:
            parents = {str(number): _ids(value) for number, value in enumerate(dependencies, start=1)}
        kinds = {}
    return [(name, _text(text), kinds.get(name, ""), parents.get(name, [])) for name, text in questions.items()]


def _ids(value: Any) -> list[str]:
    return [str(parent) for parent in value] if isinstance(value, list) else [str(value)]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {quoted(value)}")
    return value.strip()


def _in_order(rows: list[_Row], where: str) -> Questions:
    """Parents before children, otherwise as they came."""
    names = {row[0] for row in rows}
    if len(names) < len(rows):
        raise ValueError(
            f"{where}: expected a different id for each question of a prompt, got {quoted([r[0] for r in rows])}."
        )
    parents = {row[0]: [parent for parent in row[3] if parent not in ("", "0")] for row in rows}
    for name, wanted in parents.items():
        for parent in wanted:
            if parent not in names:
                raise ValueError(
                    f"{where}: question {shortened(name)} depends on {shortened(parent)}, which is not there."
                )
    numbered = list(parents)
    children: dict[str, list[int]] = {}
    waiting = [len(set(wanted)) for wanted in parents.values()]
    for place, wanted in enumerate(parents.values()):
        for parent in set(wanted):
            children.setdefault(parent, []).append(place)
    ready = [place for place, count in enumerate(waiting) if not count]  # ascending, so a heap
    order: list[str] = []
    while ready:
        order.append(numbered[heapq.heappop(ready)])
        for place in children.get(order[-1], []):
            waiting[place] -= 1
            if not waiting[place]:
                heapq.heappush(ready, place)
    if len(order) < len(rows):
        stuck = ", ".join(name for name, count in zip(numbered, waiting, strict=True) if count)
        raise ValueError(f"{where}: questions {shortened(stuck)} depend on one another in a circle.")
    places = {name: place for place, name in enumerate(order)}
    by_name: Mapping[str, _Row] = {row[0]: row for row in rows}
    found = []
    for name in order:
        _, text, kind, _ = by_name[name]
        found.append(Question(text, kind, tuple(places[parent] for parent in parents[name])))
    return tuple(found)
