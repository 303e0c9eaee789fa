"""Pictures, prompts and what people said of their alignment: published sets and tables of one's own.

dataset = load_dataset("agiqa-3k", "data/AGIQA-3K")
split = split_by_prompt(dataset.prompts, seed=0, test_share=TEST_SHARES["agiqa-3k"])
scale = ScoreScale.fit(dataset.scores[split.train])
targets = scale.to_unit(dataset.scores)
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reward.datasets import agiqa3k, aigciqa2023, pku_i2iqa, table
from reward.datasets.alignment_dataset import AlignmentDataset
from reward.datasets.rows import Row, gather
from reward.datasets.score_scale import ScoreScale
from reward.datasets.splits import SPLIT_SEEDS, TEST_SHARES, Split, prompt_key, split_by_prompt
from reward.tables.hub import HUB_PREFIX
from reward.tables.reading import expanded

DATASETS = ("agiqa-3k", "aigciqa2023", "pku-i2iqa", "table")

__all__ = [
    "DATASETS",
    "SPLIT_SEEDS",
    "TEST_SHARES",
    "AlignmentDataset",
    "ScoreScale",
    "Split",
    "load_dataset",
    "prompt_key",
    "split_by_prompt",
]


def load_dataset(
    name: str,
    data_dir: str | os.PathLike,
    skip_bad: bool = False,
    check_images: bool = True,
    columns: Mapping[str, str] | None = None,
    tell: Callable[[str], object] | None = None,
) -> AlignmentDataset:
    """Read a data set: its pictures' paths, prompts and raw human alignment scores (never those of quality).

    Args:
        name: agiqa-3k, aigciqa2023, pku-i2iqa, or table for one's own.
        data_dir: the folder of a published set; for table a .csv, .tsv, .jsonl or .parquet file, shards
            (`shard-{000..009}.tar`), `datasets:NAME?split=train`, or a folder that holds one of these, such as a
            `datasets` imagefolder (pictures with metadata.csv, .jsonl or .parquet beside them).
        skip_bad: leave out rows that cannot be used, and list them in `bad`, rather than raise.
        check_images: whether each picture must be there; without, scores and prompts can be read where there are
            none. That it can be decoded shows in `reward.training.feature_cache`.
        columns: for table, what its columns are called where they have none of their usual names
            (`reward.tables.columns.USUAL_NAMES`), for example {"image": "file", "score": "stars"}.
        tell: for table, told which columns were chosen.

    Raises:
        ValueError: an unknown name; a missing column; without `skip_bad`, rows whose picture is missing or empty, whose
            prompt is empty or whose score is no finite number. The message names file, line and mend.
        FileNotFoundError: no annotation file at `data_dir`.

    Example:
        >>> dataset = load_dataset("table", "mine/scores.csv", columns={"score": "mos"})  # doctest: +SKIP
    """
    if name not in DATASETS:
        raise ValueError(f"Expected a data set named {', '.join(DATASETS)} but got {name!r}")
    if columns and name != "table":
        raise ValueError(
            f"Expected no column names for {name}, whose format is fixed, but got {dict(columns)}; read an annotation "
            "file of another form with name 'table'"
        )
    path = Path(data_dir)
    if name == "table" and (str(data_dir).startswith(HUB_PREFIX) or expanded(data_dir) != [data_dir]):
        rows = table.read_rows(str(data_dir), columns or {}, tell)
        return gather(name, rows, skip_bad=skip_bad, check_images=check_images)
    if not path.exists():
        raise FileNotFoundError(f"Expected the data of {name} but there is nothing at {path}")
    return gather(name, _rows(name, path, columns or {}, tell), skip_bad=skip_bad, check_images=check_images)


def _rows(name: str, path: Path, columns: Mapping[str, str], tell: Any) -> Iterator[Row]:
    if name == "table":
        return table.read_rows(path, columns, tell)
    if not path.is_dir():
        raise ValueError(f"Expected the folder of {name} but {path} is a file; read a single file with name 'table'")
    return {"agiqa-3k": agiqa3k, "aigciqa2023": aigciqa2023, "pku-i2iqa": pku_i2iqa}[name].read_rows(path)
