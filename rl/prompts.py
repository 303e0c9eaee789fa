"""Load prompts, and choose the prompts of an epoch."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from reward.files.quoting import quoted, shortened
from rl.config.functions import import_function

_COLUMNS = ("prompt", "caption", "text")


def load_prompts(spec: str) -> list[str]:
    """Prompts from a text file (one per line, blank lines skipped), from `module:function`, or from a data set.

    A data set of Hugging Face `datasets` is `datasets:NAME_OR_FOLDER?split=train&column=prompt`. The default column is
    the first of prompt, caption and text that the data set has.

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
        prompts = import_function(spec, "prompts")()
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
    return list(rows[column])


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
