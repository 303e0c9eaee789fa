import os

import pytest
from PIL import Image

from reward.scoring.inputs import NoPromptError, PictureRow, find_rows


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.PNG", "._a.png", "notes.md"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    return tmp_path


def test_one_prompt_for_files_and_folders(folder):
    rows = find_rows([folder / "notes.md", folder], prompt="red")
    assert list(rows) == [PictureRow(str(folder / name), "red") for name in ("notes.md", "a.PNG", "b.png")]
    assert list(rows) == list(rows)


def test_a_folder_with_metadata_is_its_table(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "b.png", "prompt": "blue", "score": 3}\n')
    assert list(find_rows([folder])) == [PictureRow(str(folder / "b.png"), "blue")]
    # a prompt that is given wins over one that lies there
    assert [row.prompt for row in find_rows([folder], prompt="red")] == ["red", "red"]


def test_a_prompt_in_a_text_file_beside_the_picture(folder):
    (folder / "a.txt").write_text("\ufeffa ring\n", encoding="utf-8")
    (folder / "b.txt").write_text("a square\n")
    assert [row.prompt for row in find_rows([folder])] == ["a ring", "a square"]
    assert list(find_rows([folder / "b.png"])) == [PictureRow(str(folder / "b.png"), "a square")]


def test_no_prompt_names_the_picture_and_every_way_out(folder):
    (folder / "a.txt").write_text("a ring")
    with pytest.raises(NoPromptError, match=r"b.png: --prompt TEXT, a table .* metadata.csv .* b.txt beside it"):
        list(find_rows([folder]))
    (folder / "b.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="Expected UTF-8 in .*b.txt"):
        list(find_rows([folder]))


def test_paths_of_a_table_are_relative_to_it(folder, monkeypatch):
    table = folder / "pairs.tsv"
    table.write_text(f"image\tprompt\nb.png\tblue\n{folder / 'a.PNG'}\tred\nsub/c.png\tgreen\n")
    names = [str(folder / name) for name in ("b.png", "a.PNG", "sub/c.png")]
    assert [row.path for row in find_rows([], table)] == names
    assert [row.path for row in find_rows([table])] == names
    monkeypatch.chdir(folder)
    assert [row.path for row in find_rows([table.relative_to(folder)])] == ["b.png", names[1], "sub/c.png"]


def test_empty_cells_are_problems_of_their_rows(folder):
    table = folder / "pairs.jsonl"
    lines = ['{"image": "", "prompt": "x"}', '{"image": "b.png", "prompt": null}', '{"image": "b.png", "prompt": "y"}']
    table.write_text("\n".join([*lines, r'{"image": "b.png", "prompt": "\ud800"}']))
    problems = [row.problem for row in find_rows([], table)]
    assert problems[0] == f"{table}, line 1: expected the path of a picture but got ''; fill it in"
    assert problems[1] == f"{table}, line 2: expected a prompt but got None; fill it in"
    assert problems[2] == ""
    assert problems[3].startswith(f"{table}, line 4: expected Unicode but got")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_unicode_is_a_problem_of_its_row(folder):
    with open(os.fsencode(folder) + b"/\xff.png", "wb"):
        pass
    rows = list(find_rows([folder], prompt="red"))
    assert [bool(row.problem) for row in rows] == [False, False, True]


def test_an_empty_folder_and_nothing_at_all(tmp_path):
    with pytest.raises(ValueError, match="Expected pictures .* found none in"):
        find_rows([tmp_path])
    with pytest.raises(FileNotFoundError, match="Expected a table, found none at"):
        find_rows([tmp_path / "none.csv"])
    with pytest.raises(ValueError, match="got none"):
        find_rows([])
