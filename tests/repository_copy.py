"""A copy of the repository without what tools and runs leave in it, to build or break without harm."""

import shutil
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# At the top alone: rl has rooms of these names.
_TOP = {"models", "runs", "build", "dist", "venv"}
_ANYWHERE = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", ".coverage",
)  # fmt: skip


def copy_repository(target: Path) -> Path:
    """Copy the sources to `target`, which must not exist; returns it.

    Example:
        >>> (copy_repository(Path("/tmp/copy")) / "rl" / "models").is_dir()
        True
    """

    def left_out(folder: str, names: Sequence[str]) -> set[str]:
        return _ANYWHERE(folder, names) | (_TOP if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, target, ignore=left_out)
    return target
