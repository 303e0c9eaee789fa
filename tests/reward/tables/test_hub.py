"""Sets of `datasets`: from a folder of pictures, from Parquet, saved to disk, streamed."""

import datasets
import pytest

from reward.tables.hub import is_streamed, read_dataset
from reward.tables.rows import Asked
from tests.reward.tables.conftest import PROMPTS, encoded, redness

ASKED = Asked(("image", "prompt"))
RED = [0, 50, 100, 150, 200]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def imagefolder(pictures):
    lines = ["file_name,text", *(f'{n}.png,"{text.replace(chr(34), chr(34) * 2)}"' for n, text in enumerate(PROMPTS))]
    (pictures / "sub" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return pictures / "sub"


@pytest.mark.parametrize("options", ["", "?split=train", "?split=train&streaming=1"])
def test_an_imagefolder(imagefolder, options):
    rows = list(read_dataset(f"datasets:{imagefolder}{options}", ASKED))
    assert [row.cells["prompt"] for row in rows] == PROMPTS
    assert [redness(row.cells["image"]) for row in rows] == RED
    assert str(rows[1].cells["image"]) == f"{imagefolder}#2"


@pytest.mark.parametrize("kind", ["image", "bytes", "path"])
def test_a_set_on_disk(pictures, tmp_path, kind):
    files = [str(pictures / "sub" / f"{n}.png") for n in range(5)]
    cells = [encoded(red) for red in RED] if kind == "bytes" else files
    data = datasets.Dataset.from_dict({"caption": PROMPTS, "image": cells})
    if kind == "image":
        data = data.cast_column("image", datasets.Image())
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data.select([4])}).save_to_disk(tmp_path / "two")
    for source in (str(tmp_path / "one"), f"datasets:{tmp_path / 'one'}", f"datasets:{tmp_path / 'two'}?split=train"):
        rows = list(read_dataset(source, ASKED))
        assert [redness(row.cells["image"]) for row in rows] == RED
        assert [row.cells["prompt"] for row in rows] == PROMPTS
    with pytest.raises(ValueError, match="Expected one split in .* but it has train, test"):
        read_dataset(str(tmp_path / "two"), ASKED)
    with pytest.raises(ValueError, match="Expected a split of .*, train, test, but got 'val'"):
        read_dataset(f"datasets:{tmp_path / 'two'}?split=val", ASKED)


def test_a_streamed_set_is_passed_over_without_pictures_too(imagefolder):
    spec = f"datasets:{imagefolder}?streaming=1"
    assert is_streamed(spec) and not is_streamed(f"datasets:{imagefolder}")
    with_pictures, without = (list(read_dataset(spec, ASKED, pictures=pictures)) for pictures in (True, False))
    assert [row.cells["prompt"] for row in without] == PROMPTS
    for one, other in zip(with_pictures, without, strict=True):
        assert one.cells["image"].state() == other.cells["image"].state()
        assert str(one.cells["image"]) == str(other.cells["image"])
        assert other.cells["image"].read() == b""


def test_what_cannot_be_loaded(tmp_path):
    for spec, message in (
        ("datasets:", "Expected datasets:NAME_OR_FOLDER"), ("datasets:x?colour=red", "with colour"),
        (f"datasets:{tmp_path}", "could not be loaded"), ("datasets:nobody/nothing", "could not be loaded"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            read_dataset(spec, ASKED)
    datasets.Dataset.from_dict({"prompt": PROMPTS}).save_to_disk(tmp_path / "s")
    with pytest.raises(ValueError, match="expected a column image .* but there is prompt"):
        read_dataset(str(tmp_path / "s"), ASKED)
