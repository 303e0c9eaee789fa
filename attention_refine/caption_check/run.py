"""Check many pictures into a folder: in parts that an interrupted run need not repeat, with numbers, tables and a page.

The folder: `checks.jsonl` (everything), `checks.csv` (a line a picture), `summary.json`, `index.html`.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attention_refine.caption_check.check import CaptionCheck, other_prompts, to_pictures
from attention_refine.caption_check.page import page_html
from attention_refine.caption_check.questions import Questions
from reward.files.digests import state_digest
from reward.files.quoting import quoted, shortened
from reward.files.writing import write_text, write_whole
from reward.parallel.read_ahead import read_ahead
from reward.scoring.inputs import PictureRow
from reward.scoring.parts import PartFolder, Record
from reward.scoring.score import PART_BATCHES, Part, split_rows
from reward.statistics.correlations import bootstrap_draws, interval, prompt_rows

MEASURES = ("prompt_yes", "questions_yes", "caption_coverage")
SIDES = ("base", "lora")
_COLUMNS = ("path", "side", "prompt", "caption", *MEASURES, "control_prompt", *(f"control_{name}" for name in MEASURES))
# part of a part's key: a change of how pictures are read, asked or judged needs another number
_VERSION = 2


def find_run_rows(run: Path) -> tuple[list[PictureRow], dict[str, dict[str, Any]]]:
    """The pictures that a run of `rl` compared at its end; by path, each one's side ("base", "lora") and reward.

    Raises:
        FileNotFoundError: no such run, or it made no comparison.
        ValueError: its evaluation.json is damaged, or names a picture outside the run.
    """
    path = run / "evaluation.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a run folder with evaluation.json and samples/evaluation/, found none in {run}. A run writes "
            "them at its end with eval_at_end: true; for other pictures give their folder or a table."
        )
    rows, details = [], {}
    try:
        examples = json.loads(path.read_text(encoding="utf-8"))["examples"]
        for side in SIDES:
            for example in examples:
                picture = run / example[side]
                if not picture.resolve().is_relative_to(run.resolve()):
                    raise ValueError(f"a picture outside the run, {quoted(example[side])}")
                reward = example.get(f"reward_{side}")
                rows.append(PictureRow(str(picture), _told(example["prompt"])))
                details[str(picture)] = {"side": side, "reward": None if reward is None else _number(reward)}
    # AttributeError: an example that is no mapping; RecursionError: a thousand brackets
    except (AttributeError, KeyError, OverflowError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {path} as a run writes it, got {shortened(repr(error))}. Evaluate the run again."
        ) from error
    return rows, details


def _told(prompt: Any) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"{quoted(prompt)} as a prompt")
    prompt.encode()  # half a surrogate pair could not be written
    return prompt


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{quoted(value)} as a reward")
    return float(value)


def check_to_folder(
    check: CaptionCheck,
    rows: Sequence[PictureRow],
    output: Path,
    *,
    questions: Mapping[str, Questions] | None = None,
    control: bool = True,
    details: Mapping[str, Mapping[str, Any]] | None = None,
    title: str = "Caption check",
    page_pictures: int = 200,
    progress: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Check rows and write the folder; what an interrupted run finished is not done again.

    Args:
        check: with the captioner.
        rows: pictures and prompts.
        questions: by prompt; made by rule for prompts that it does not have.
        control: check another picture's prompt too.
        details: of a run's pictures, from `find_run_rows`.
        title: of the page.
        page_pictures: how many pictures the page shows, the worst first; pairs of a run count once.
        progress: show a bar.

    Returns:
        the summary, and a line for each picture that could not be read.
    """
    from tqdm import tqdm

    output.mkdir(parents=True, exist_ok=True)
    target = output / "checks.jsonl"
    folder = PartFolder(target)
    size = check.captioner.batch_size
    others: list[str | None] = [None] * len(rows)
    if control:
        usable = [place for place, row in enumerate(rows) if not row.problem]
        for place, other in zip(usable, other_prompts([rows[place].prompt for place in usable]), strict=True):
            others[place] = other
    key = _run_key(check, questions, others)
    bar = tqdm(desc="pictures", total=len(rows), disable=not progress)

    def missing() -> Iterator[Part]:
        for part in split_rows(rows, size, key):
            if folder.has(part.index, part.key):
                bar.update(len(part.rows))
            else:
                yield part

    with bar, closing(read_ahead(missing(), _read, workers=1)) as parts:
        for part, (pictures, problems) in parts:
            controls = others[part.index * size * PART_BATCHES :][: len(part.rows)]
            folder.write(part.index, part.key, _records(check, part, pictures, problems, controls, questions))
            bar.update(len(part.rows))
    records = [record for part in split_rows(rows, size, key) for record in folder.read(part.index, part.key)]
    good = [_finished(record, (details or {}).get(record["path"], {})) for record in records if "score" in record]
    problems = [record["error"] for record in records if "score" not in record]
    # pictures inside a table or a shard are not found by their name
    stored = {row.path: row.stored for row in rows if row.stored}
    shown = [record | {"stored": stored[record["path"]]} if record["path"] in stored else record for record in good]
    write_text(target, "".join(json.dumps(record) + "\n" for record in good))
    _write_csv(output / "checks.csv", good)
    summary = summarize(good) | {"unreadable": len(problems)}
    write_text(output / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_text(output / "index.html", page_html(shown, summary, title=title, limit=page_pictures))
    if not problems:
        folder.remove()
    return summary, problems


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Means, and differences with 95 % intervals by bootstrap over prompts; null where there is nothing to compare.

    `own` and `control` are means over pictures, `margin` their paired difference; with the sides of a run also `base`,
    `lora` and `gain`, paired by prompt.
    """
    summary: dict[str, Any] = {"pictures": len(records)}
    prompts = [record["prompt"] for record in records]
    by_pair = {side: {_pair(r): r for r in records if r.get("side") == side} for side in SIDES}
    pairs = [pair for pair in by_pair["base"] if pair in by_pair["lora"]]

    def sides_of(value: Callable[[Record], float | None]) -> dict[str, Any]:
        base, lora = ([value(by_pair[side][pair]) for pair in pairs] for side in SIDES)
        gain = _difference("gain", lora, base, [by_pair["base"][pair]["prompt"] for pair in pairs])
        return {"base": _mean(base), "lora": _mean(lora)} | gain if pairs else {}

    for name in MEASURES:
        own = [record["own"][name] for record in records]
        control = [(record["control"] or {}).get(name) for record in records]
        summary[name] = {"own": _mean(own), "control": _mean(control)}
        summary[name] |= _difference("margin", own, control, prompts)
        summary[name] |= sides_of(lambda record, name=name: record["own"][name])
    if pairs:
        summary["reward"] = sides_of(lambda record: record.get("reward"))
    return summary


def _pair(record: Record) -> str:
    """What the two sides of a run share: the picture's file name without its side."""
    return Path(record["path"]).name.partition("_")[2]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _difference(
    name: str, values: Sequence[float | None], others: Sequence[float | None], prompts: Sequence[str]
) -> dict[str, Any]:
    known = [row for row in zip(values, others, prompts, strict=True) if None not in row[:2]]
    if not known:
        return {name: None, f"{name}_ci": None}
    gaps = np.array([value - other for value, other, _ in known])
    names = [prompt for _, _, prompt in known]
    enough = len(prompt_rows(names)) > 1
    bounds = interval(bootstrap_draws(np.mean, names, gaps)) if enough else (math.nan, math.nan)
    return {name: float(gaps.mean()), f"{name}_ci": list(bounds) if math.isfinite(bounds[0]) else None}


def _run_key(
    check: CaptionCheck, questions: Mapping[str, Questions] | None, others: Sequence[str | None]
) -> str:
    """Of everything besides the pictures that a check depends on."""
    captioner = check.captioner
    settings = [
        _VERSION, captioner.model.config.to_dict(), str(captioner.model.device.type), repr(captioner.processor),
        captioner.max_new_tokens, check.question, check.instruction, check.exactly_one, repr(check.contrastive),
        sorted((questions or {}).items()), others,
    ]  # fmt: skip
    return state_digest(settings, captioner.model.state_dict())


def _read(part: Part) -> tuple[list[Image.Image], dict[int, str]]:
    """The part's pictures that can be read; place in the part -> problem of the others."""
    pictures, problems = [], {}
    for place, row in enumerate(part.rows):
        try:
            if row.problem:
                raise ValueError(row.problem)
            pictures += to_pictures(row.picture)
        # whatever a decoder does with a damaged file, it is not the end of a long run
        except Exception as error:
            known = isinstance(error, ValueError)
            problems[place] = str(error) if known else f"{row.path}: {type(error).__name__}: {error}"
    return pictures, problems


def _records(
    check: CaptionCheck,
    part: Part,
    pictures: list[Image.Image],
    problems: dict[int, str],
    controls: Sequence[str | None],
    questions: Mapping[str, Questions] | None,
) -> list[Record]:
    places = [place for place in range(len(part.rows)) if place not in problems]
    prompts, others = [part.rows[place].prompt for place in places], [controls[place] for place in places]
    found = dict(zip(places, check.check(pictures, prompts, questions, others) if places else [], strict=True))
    records = []
    for place, row in enumerate(part.rows):
        if place in problems:
            records.append({"path": row.path, "error": problems[place]})
        else:
            # a part counts as finished where its rows have a score
            own = {"path": row.path, "prompt": row.prompt, "score": found[place].own.prompt_yes}
            records.append(own | found[place].record())
    return records


def _finished(record: Record, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "score"} | dict(detail)


def _write_csv(path: Path, records: Iterable[Record]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            for record in records:
                control = record["control"] or {}
                row = {name: record.get(name, "") for name in ("path", "side", "prompt", "caption")}
                row |= {name: _cell(record["own"][name]) for name in MEASURES}
                row |= {f"control_{name}": _cell(control.get(name)) for name in MEASURES}
                writer.writerow(row | {"control_prompt": control.get("prompt", "")})

    write_whole(path, write)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
