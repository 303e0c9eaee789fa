import pytest

from reward.training.feature_cache import UnreadablePictures
from reward.training.rated_data import load_rated, tell_bad


@pytest.fixture
def table(rated_table, tmp_path):
    """The first three rows; the second picture is damaged."""
    lines = rated_table.read_text().splitlines()[:4]
    for line in lines[1:]:
        name = line.split(",")[0]
        (tmp_path / name).write_bytes((rated_table.parent / name).read_bytes())
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "scores.csv").write_text("\n".join(lines).replace("score", "mos", 1) + "\n")
    return tmp_path / "scores.csv"


def test_damaged_pictures_are_left_out_and_told(table, capsys):
    dataset = load_rated("table", table, ["score=mos"], skip_bad=True)
    assert [path.name for path in dataset.images] == ["0.png", "2.png"] and len(dataset.scores) == 2
    assert len(dataset.bad) == 1 and "1.png" in dataset.bad[0]
    tell_bad(dataset)
    assert capsys.readouterr().err.startswith("left out 1 of 3 pairs:\n  Expected a readable image")


def test_without_skip_bad_nothing_is_decoded_here(table):
    dataset = load_rated("table", table, ["score=mos"], skip_bad=False)
    assert len(dataset) == 3 and not dataset.bad


def test_no_picture_left_is_an_error(table):
    for name in ("0.png", "2.png"):
        (table.parent / name).write_bytes(b"no picture")
    with pytest.raises(UnreadablePictures, match="3 are not"):
        load_rated("table", table, ["score=mos"], skip_bad=True)


def test_columns_are_pairs(table):
    with pytest.raises(ValueError, match="Expected --columns as ROLE=NAME"):
        load_rated("table", table, ["mos"], skip_bad=False)
