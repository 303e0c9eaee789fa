"""Excel workbooks -> numbered rows of the first sheet."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

# The published sets' workbooks hold some hundred kilobytes; a zip file of as much can hold gigabytes.
_LARGEST = 8 * 2**20
_MOST_ROWS = 100_000
_MOST_COLUMNS = 64


def workbook_rows(path: Path) -> Iterator[tuple[int, tuple]]:
    """Cells of each row that is not empty, with the row's number as Excel shows it; at most 64 columns are read.

    Raises:
        ValueError: not a workbook, or one of more than 8 MB unpacked or 100,000 rows.
    """
    try:
        yield from _rows(path)
    # openpyxl lets through what zipfile and its XML parser raise
    except Exception as error:
        raise ValueError(
            f"Expected an Excel workbook (.xlsx) but could not read {path}: {error}; fetch it again"
        ) from error


def _rows(path: Path) -> Iterator[tuple[int, tuple]]:
    import openpyxl

    with zipfile.ZipFile(path) as parts:
        unpacked = sum(part.file_size for part in parts.infolist())
    if unpacked > _LARGEST:
        raise ValueError(f"it unpacks to {unpacked} bytes, more than {_LARGEST}")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        sheet = book.worksheets[0]
        # The size that a file states is sometimes wrong, and rows beyond it would be left out.
        sheet.reset_dimensions()
        # A row may state any number, and openpyxl makes up all those before it.
        for number, cells in enumerate(sheet.iter_rows(values_only=True, max_col=_MOST_COLUMNS), start=1):
            if number > _MOST_ROWS:
                raise ValueError(f"it has more than {_MOST_ROWS} rows")
            width = max((place for place, cell in enumerate(cells, start=1) if cell is not None), default=0)
            if width:
                yield number, cells[:width]
    finally:
        book.close()
