"""metrics.csv and the picture grids that a run writes while it trains."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from reward.files.quoting import quoted, shortened
from reward.files.writing import write_text, write_whole
from rl.runs.pictures import draw_grid, to_picture

_LAST_STEP = 2**53  # larger whole numbers are not exact as floats


class RunReporter:
    """Writes metrics and sample grids of one run to its folder. Only the main process uses it.

    Args:
        run_dir: the run folder, made if missing.
        start_step: step that the run is resumed from; later rows of an existing metrics.csv are dropped.

    Raises:
        ValueError: an existing metrics.csv is malformed.

    Example:
        >>> reporter = RunReporter(Path("runs/demo"))
        >>> reporter.log(1, {"reward_mean": 0.31, "reward_std": 0.12})
    """

    def __init__(self, run_dir: Path, *, start_step: int = 0) -> None:
        self.run_dir = Path(run_dir)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._rows = {step: row for step, row in read_metrics(self.run_dir).items() if step <= start_step}
        self._columns: dict[str, None] = {}  # of the header that this reporter wrote

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add `values` to the row of `step`; a later value of the same name replaces the earlier one.

        Raises:
            TypeError: a value is not a number.
        """
        new = {}
        for name, value in values.items():
            try:
                new[name] = float(value)
            except (TypeError, ValueError) as error:
                raise TypeError(f"Expected a number for the metric {quoted(name)}, got {quoted(value)}.") from error
        step, newest = int(step), next(reversed(self._rows), None)
        self._rows.setdefault(step, {}).update(new)
        path = self.run_dir / "metrics.csv"
        # Append the row if it is the last one and its columns are in the header. Rewriting the file at every step would
        # take quadratic time in the number of steps.
        if newest is not None and step > newest and new.keys() <= self._columns.keys() and path.is_file():
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._lines([step]))
            return
        self._rows = dict(sorted(self._rows.items()))
        self._columns = dict.fromkeys(name for row in self._rows.values() for name in row)
        write_text(path, self._lines(self._rows, header=True))

    def _lines(self, steps: Iterable[int], header: bool = False) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(["step", *self._columns])
        for step in steps:
            row = self._rows[step]
            writer.writerow([step, *(_shortest(row[name]) if name in row else "" for name in self._columns)])
        return text.getvalue()

    def save_grid(self, name: str, images: torch.Tensor, captions: Sequence[str]) -> Path:
        """Save pictures with their captions as samples/{name}.png. Small pictures are enlarged without smoothing.

        Args:
            name: file name without suffix; may contain a subfolder of samples/.
            images: (B, 3, H, W) floating-point tensor in [0, 1]; other values are clamped, NaN becomes black.
            captions: B texts; long ones are wrapped and cut.

        Raises:
            ValueError: wrong shape, no picture, a different number of captions, or a name outside samples/.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[0] == 0:
            raise ValueError(f"Expected images of shape (B, 3, H, W) with B > 0, got {tuple(images.shape)}.")
        if len(captions) != images.shape[0]:
            raise ValueError(f"Expected one caption per picture, got {len(captions)} for {images.shape[0]} pictures.")
        samples = (self.run_dir / "samples").resolve()
        path = (samples / f"{name}.png").resolve()
        if not path.is_relative_to(samples):
            raise ValueError(f"Expected the name of a file below samples/, got {quoted(name)}.")
        grid = draw_grid([to_picture(image) for image in images], captions)
        return write_whole(path, lambda temporary: grid.save(temporary, format="PNG"))


def read_metrics(run_dir: Path) -> dict[int, dict[str, float]]:
    """Read metrics.csv as {step: {name: value}} in order of steps; empty if there is no file.

    Raises:
        ValueError: the file has no step column, or a cell is not a number.
    """
    path = Path(run_dir) / "metrics.csv"
    if not path.exists():
        return {}
    rows: dict[int, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as lines:
        # Skip a last line without a line end: the run was killed while it wrote the line.
        reader = csv.DictReader(line for line in lines if line.endswith("\n"))
        try:
            for row in reader:
                step = int(row.pop("step"))
                if abs(step) > _LAST_STEP:
                    raise ValueError(f"a step beyond {_LAST_STEP}")
                rows[step] = {name: float(cell) for name, cell in row.items() if cell}
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected {path} to hold a column 'step' and numbers, got an error in line {reader.line_num}: "
                f"{shortened(repr(error))}. Fix the line, or move the file away."
            ) from error
    return dict(sorted(rows.items()))


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
