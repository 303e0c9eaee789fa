"""Load prompts, and choose the prompts of an epoch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from reward.files.quoting import quoted, shortened
from rl.config.functions import import_function

_COLUMNS = ("prompt", "caption", "text")


class Prompt(str):
    """A prompt with what a reward may want to know of it besides: GenEval's objects, the text that should be read.

    A string in every other respect, so that it goes wherever prompts go, and reaches every reward's `metadata`.

    Args:
        text: the prompt.
        metadata: its further fields.

    Example:
        >>> prompt = Prompt("two cats", {"count": 2})
        >>> prompt == "two cats", metadata_of(prompt), metadata_of("two cats")
        (True, {'count': 2}, {})
    """

    metadata: Mapping[str, Any]

    def __new__(cls, text: str, metadata: Mapping[str, Any]) -> "Prompt":
        prompt = super().__new__(cls, text)
        prompt.metadata = dict(metadata)
        return prompt

    def __getnewargs__(self) -> tuple[str, Mapping[str, Any]]:
        return str(self), self.metadata


def metadata_of(prompt: str) -> Mapping[str, Any]:
    """The further fields of a prompt; none of a plain string."""
    return getattr(prompt, "metadata", {})


def load_prompts(spec: str) -> list[str]:
    """Prompts from a text file (one a line, blank lines skipped), JSON lines, `module:function`, or a data set.

    A line of FILE.jsonl is an object with the prompt under prompt, caption or text; its other keys are the prompt's
    metadata, see `Prompt`. A function returns prompts, or pairs of a prompt and its metadata. A data set of Hugging
    Face `datasets` is `datasets:NAME_OR_FOLDER?split=train&column=prompt`; without a column, the first of prompt,
    caption and text that it has; its other columns, pictures and sounds excepted, are metadata.

    Raises:
        ValueError: none of these forms, no prompts, or a prompt that is not text.
        FileNotFoundError: no such file.

    Example:
        >>> load_prompts("tinyworld.scenes:train_prompts")[0]
        'a red ring left of a blue square'
    """
    if not spec:
        raise ValueError(
            "prompts: expected a text file, module:function or datasets:NAME, got nothing. Set `prompts`."
        )
    path = Path(spec)
    if spec.startswith("datasets:"):
        prompts = _dataset_prompts(spec)
    elif ":" in spec and not path.exists():
        prompts = [_paired(prompt) for prompt in import_function(spec, "prompts")()]
    elif path.is_file() and path.suffix == ".jsonl":
        prompts = list(_json_prompts(path))
    elif path.is_file():
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        raise FileNotFoundError(
            f"prompts: expected a text file, module:function or datasets:NAME, got {spec!r}: no such file."
        )
    prompts = list(prompts)
    if not prompts:
        raise ValueError(f"prompts: expected at least one prompt from {spec!r}, got none.")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"prompts: expected text from {spec!r}, got {quoted(prompt)} ({type(prompt).__name__}).")
    return prompts


def _paired(prompt: Any) -> Any:
    """A pair of prompt and metadata as a `Prompt`; anything else as it is."""
    if isinstance(prompt, (tuple, list)) and len(prompt) == 2 and isinstance(prompt[1], Mapping):
        text, metadata = prompt
        return Prompt(text, metadata) if isinstance(text, str) else text
    return prompt


def _json_prompts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"prompts: expected a JSON object in {path}, line {number}, got {error}.") from error
            column = next((c for c in _COLUMNS if isinstance(record, dict) and c in record), None)
            if column is None or not isinstance(record[column], str):
                raise ValueError(
                    f"prompts: expected an object with text under {' or '.join(_COLUMNS)} in {path}, line {number}, "
                    f"got {line.strip()[:80]}."
                )
            yield Prompt(record.pop(column), record)


def _dataset_prompts(spec: str) -> list[str]:
    from datasets import load_dataset

    name, _, query = spec.removeprefix("datasets:").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = set(options) - {"split", "column"}
    if not name or unknown:
        raise ValueError(
            f"prompts: expected datasets:NAME_OR_FOLDER?split=SPLIT&column=COLUMN, got {spec!r}"
            + (f" with {', '.join(sorted(unknown))}." if unknown else ".")
        )
    try:
        rows = load_dataset(name, split=options.get("split", "train"))
    except Exception as error:
        # The library raises many kinds of errors. Their messages say what is missing.
        raise ValueError(
            f"prompts: {spec!r} could not be loaded: {type(error).__name__}: {shortened(error)}"
        ) from error
    column = options.get("column") or next((c for c in _COLUMNS if c in rows.column_names), "")
    if column not in rows.column_names:
        raise ValueError(
            f"prompts: expected a column {column or ' or '.join(_COLUMNS)} in {spec!r}, got "
            f"{shortened(', '.join(rows.column_names))}. Name one: datasets:{name}?column=COLUMN."
        )
    import datasets

    heavy = tuple(kind for name in ("Image", "Audio", "Video") if (kind := getattr(datasets, name, None)))
    others = [name for name, kind in rows.features.items() if name != column and not isinstance(kind, heavy)]
    texts = list(rows[column])
    if not others or not all(isinstance(text, str) for text in texts):
        return texts
    return [Prompt(text, fields) for text, fields in zip(texts, rows.select_columns(others), strict=True)]


def epoch_prompts(prompts: Sequence[str], count: int, epoch: int, seed: int) -> list[str]:
    """`count` prompts for an epoch. Every prompt is used once before any is repeated.

    The prompts are an endless sequence of random permutations; epoch e takes the places e*count .. (e+1)*count - 1.
    They depend only on seed and epoch, so resuming needs no state.
    """
    chosen = []
    for place in range(epoch * count, (epoch + 1) * count):
        lap, position = divmod(place, len(prompts))
        if position == 0 or not chosen:
            order = np.random.default_rng([seed, lap]).permutation(len(prompts))
        chosen.append(prompts[order[position]])
    return chosen
