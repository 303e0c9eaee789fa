"""docs/bring-your-pictures.md: its commands are run, and their output is what the page shows."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from docs.bring_your_pictures import write_all
from reward.cli.main import main
from reward.tables import reading
from tinyworld.rated_pictures import write_rated_pictures

PAGE = (Path(__file__).parents[3] / "docs" / "bring-your-pictures.md").read_text(encoding="utf-8")
# every block of commands with the block of output that follows it
SHOWN = re.findall(r"```bash\n(hyperalign .*?)```\n\n```text\n(.*?)```", PAGE, re.S)
# and those with a file on standard input
SHOWN += re.findall(r"^\$ (hyperalign .*?\n)((?:[^$`].*\n)+)", PAGE, re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_rated_pictures(folder / "pictures", count=6)
    write_all(folder / "pictures", folder)
    return folder


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def run(line, monkeypatch):
    """One line of the page; (exit code, what it printed)."""
    command, _, file = line.partition(" < ")
    data = Path(file.split()[0]).read_bytes() if file else b""
    reading.spooled_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    words = shlex.split(command, comments=True)
    assert words[0] == "hyperalign"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words[1:])
    return code, said.getvalue()


@pytest.mark.parametrize(("commands", "shown"), SHOWN, ids=[commands.split("--")[0].strip() for commands, _ in SHOWN])
def test_the_page_shows_what_its_commands_print(commands, shown, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    said = []
    for line in commands.strip().splitlines():
        code, text = run(line, monkeypatch)
        assert code == 0, text
        said.append(text)
    for line in shown.strip().splitlines():
        number = re.search(r"0\.\d{4,}", line)
        # the last digits of a score are the machine's own
        wanted = line if number is None else line[: number.start() + 5]
        assert any(wanted in text for text in said), (line, said)


def test_every_input_of_the_page_is_shown():
    assert len(SHOWN) == 5 + 2
