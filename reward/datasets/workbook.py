"""Excel workbooks -> numbered rows of the first sheet."""

from collections.abc import Iterator
from pathlib import Path


def workbook_rows(path: Path) -> Iterator[tuple[int, tuple]]:
    """Cells of each row that is not empty, with the row's number as Excel shows it.

    Raises:
        ValueError: not a workbook.
    """
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    # openpyxl lets through what zipfile and its XML parser raise
    except Exception as error:
        raise ValueError(
            f"Expected an Excel workbook (.xlsx) but could not read {path}: {error}; fetch it again"
        ) from error
    try:
        sheet = book.worksheets[0]
        # The size that a file states is sometimes wrong, and rows beyond it would be left out.
        sheet.reset_dimensions()
        for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            if any(cell is not None for cell in cells):
                yield number, cells
    finally:
        book.close()
