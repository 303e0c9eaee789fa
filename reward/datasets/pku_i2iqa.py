"""PKU-I2IQA (Yuan et al. 2023): the annotation workbook as published, or scores.tsv."""

from collections.abc import Iterator
from pathlib import Path

from reward.datasets.rows import Row
from reward.datasets.tab_separated import FILE as TSV
from reward.datasets.tab_separated import read_tab_separated
from reward.datasets.workbook import workbook_rows

WORKBOOK = "I2IQA_annotation.xlsx"
PICTURES = Path("Generated_image", "All")


def read_rows(folder: Path) -> Iterator[Row]:
    """Rows of the workbook, or else of scores.tsv; the score is MOS_c (correspondence), about 0.7..5.

    Columns by position: image prompt, text prompt, generated image, MOS_q, MOS_a, MOS_c; a first row without numbers
    is a header.

    Raises:
        FileNotFoundError: neither form.
        ValueError: not a workbook.
    """
    if (folder / WORKBOOK).is_file():
        return _published(folder)
    if (folder / TSV).is_file():
        return read_tab_separated(folder)
    raise FileNotFoundError(
        f"Expected PKU-I2IQA with {WORKBOOK} or {TSV} in {folder} but there is neither; give the folder it is in"
    )


def _published(folder: Path) -> Iterator[Row]:
    path = folder / WORKBOOK
    for number, cells in workbook_rows(path):
        where = f"{path}, row {number}"
        if number == 1 and all(cell is None or isinstance(cell, str) for cell in cells):
            continue
        if len(cells) < 6:
            yield Row(where, problem=f"expected six cells, the last one MOS_c, but got {len(cells)}; correct the row")
            continue
        _, prompt, image, _, _, correspondence = cells[:6]
        yield Row(where, (image,), prompt, correspondence, (folder / PICTURES,))
