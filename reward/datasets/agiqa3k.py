"""AGIQA-3K (Li et al. 2023): data.csv, with its pictures beside it or in images/."""

from collections.abc import Iterator
from pathlib import Path

from reward.datasets.rows import Row
from reward.datasets.table import csv_table

FILE = "data.csv"
COLUMNS = {"image": "name", "prompt": "prompt", "score": "mos_align"}


def read_rows(folder: Path) -> Iterator[Row]:
    """Rows of the published file; the score is mos_align, nominally 0..5.

    Raises:
        FileNotFoundError: no data.csv.
        ValueError: a missing column.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"Expected AGIQA-3K with {FILE} but there is none at {path}; give the folder it is in")
    return csv_table(path, COLUMNS, (folder, folder / "images"))
