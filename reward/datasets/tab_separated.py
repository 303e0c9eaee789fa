"""scores.tsv: path, quality, authenticity, correspondence, prompt; no header. A common form of two published sets."""

from collections.abc import Iterator
from pathlib import Path

from reward.datasets.rows import Row
from reward.datasets.text_rows import tab_rows
from reward.tables.delimited import number_or_text

FILE = "scores.tsv"


def read_tab_separated(folder: Path) -> Iterator[Row]:
    """Rows of `scores.tsv` in `folder`, to which its paths are relative; the score is correspondence, the fourth."""
    path = folder / FILE
    for line, fields in tab_rows(path):
        where = f"{path}, line {line}"
        if len(fields) != 5:
            yield Row(
                where,
                problem="expected path, quality, authenticity, correspondence and prompt with tabs between them but "
                f"got {len(fields)} fields; correct the line",
            )
            continue
        image, _, _, correspondence, prompt = fields
        yield Row(where, (image,), prompt, number_or_text(correspondence), (folder,))
