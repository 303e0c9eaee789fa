import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reward.datasets import DATASETS, AlignmentDataset, load_dataset

ROOT = Path(__file__).parents[3]


def table(folder, *lines):
    path = folder / "scores.csv"
    path.write_text("\n".join(("image,prompt,score", *lines)) + "\n")
    return path


def test_unknown_names_and_places(tmp_path):
    with pytest.raises(ValueError, match="Expected a data set named agiqa-3k, .* but got 'agiqa'"):
        load_dataset("agiqa", tmp_path)
    for name in DATASETS:
        with pytest.raises(FileNotFoundError, match=f"Expected the data of {name} but there is nothing at .*gone"):
            load_dataset(name, tmp_path / "gone")
        with pytest.raises(FileNotFoundError, match="Expected .* but there is n"):
            load_dataset(name, tmp_path)
    with pytest.raises(ValueError, match="read a single file with name 'table'"):
        load_dataset("pku-i2iqa", table(tmp_path))
    with pytest.raises(ValueError, match="Expected no column names for agiqa-3k"):
        load_dataset("agiqa-3k", tmp_path, columns={"score": "mos_quality"})


def test_a_missing_picture_names_file_line_and_mend(tmp_path, put_pictures):
    put_pictures(tmp_path / "a.png", tmp_path / "c.png")
    path = table(tmp_path, "a.png,one,1", "b.png,two,2", "c.png,three,3", "d.png,four,4")
    with pytest.raises(ValueError) as caught:
        load_dataset("table", path)
    message = str(caught.value)
    assert f"{path}, line 3: expected a picture at {tmp_path / 'b.png'} but there is none; put it there" in message
    assert "The first of 2 of 4 rows of table that cannot be used" in message and "--skip-bad" in message


def test_skip_bad_collects(tmp_path, put_pictures):
    put_pictures(tmp_path / "a.png", tmp_path / "c.png")
    (tmp_path / "empty.png").touch()
    path = table(tmp_path, "a.png,one,1", "b.png,two,2", "c.png, ,3", "c.png,three,nan", "empty.png,x,1", "c.png,x,4")
    dataset = load_dataset("table", path, skip_bad=True)
    assert dataset.prompts == ("one", "x") and dataset.scores.tolist() == [1, 4]
    assert dataset.images == (tmp_path / "a.png", tmp_path / "c.png")
    assert [line.split(": ")[0] for line in dataset.bad] == [f"{path}, line {n}" for n in (3, 4, 5, 6)]
    for line, text in zip(dataset.bad, ("but there is none", "a prompt", "a finite score", "is empty"), strict=True):
        assert text in line


def test_skip_bad_with_nothing_left(tmp_path):
    with pytest.raises(ValueError, match=r"It of 1 of 1 rows of table that cannot be used; .*no row is left"):
        load_dataset("table", table(tmp_path, "gone.png,one,1"), skip_bad=True)
    with pytest.raises(ValueError, match="Expected at least one annotated picture in table"):
        load_dataset("table", table(tmp_path), skip_bad=True)


def test_without_pictures(tmp_path):
    dataset = load_dataset("table", table(tmp_path, "gone.png,one,1.5"), check_images=False)
    assert dataset.images == (tmp_path / "gone.png",) and dataset.scores.tolist() == [1.5] and dataset.bad == ()


@pytest.mark.parametrize("score", ["", "good", "nan", "inf", "-Infinity", "1e999", "1_000", "True", "0x10"])
def test_a_score_that_is_no_finite_number(tmp_path, put_pictures, score):
    put_pictures(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"scores.csv, line 3: expected a (number as|finite) score but got .*; corr"):
        load_dataset("table", table(tmp_path, "a.png,one,1", f"a.png,two,{score}"))


def test_a_decimal_comma_gets_a_hint(tmp_path, put_pictures):
    put_pictures(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"but got '3,5' \(str\); write decimals with a point"):
        load_dataset("table", table(tmp_path, 'a.png,one,"3,5"'))


def test_separators_of_windows(tmp_path, put_pictures):
    with pytest.raises(ValueError, match=r"expected a picture at .*images/a.png but there is none"):
        load_dataset("table", table(tmp_path, r"images\a.png,one,1"))
    put_pictures(tmp_path / "images" / "a.png")
    assert load_dataset("table", table(tmp_path, r"images\a.png,one,1")).images == (tmp_path / "images" / "a.png",)
    # a name with a backslash in it is a file's own on other systems
    put_pictures(tmp_path / r"images\a.png")
    assert load_dataset("table", table(tmp_path, r"images\a.png,one,1")).images == (tmp_path / r"images\a.png",)


def test_a_folder_is_no_picture(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ValueError, match="expected a picture at .*a.png but there is none"):
        load_dataset("table", table(tmp_path, "a.png,one,1"))


def make(count=4):
    images = tuple(Path(f"{i}.png") for i in range(count))
    return AlignmentDataset("made-up", images, tuple(f"p{i}" for i in range(count)), range(count), ("bad line",))


def test_subset():
    dataset = make()
    assert len(dataset) == 4 and dataset.scores.dtype == np.float64
    for indices in ([3, 1], np.array([3, 1]), (3, 1)):
        part = dataset.subset(indices)
        assert part.prompts == ("p3", "p1") and part.images == (Path("3.png"), Path("1.png"))
        assert part.scores.tolist() == [3, 1] and part.bad == ("bad line",) and part.name == "made-up"
    assert dataset.subset(dataset.scores > 1).prompts == ("p2", "p3")
    assert len(dataset.subset([])) == 0
    with pytest.raises(IndexError):
        dataset.subset([4])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"Expected as many images and prompts as scores \(N,\) but got 4, 3"):
        AlignmentDataset("x", make().images, make().prompts[:3], range(4))


def test_import_is_light():
    code = "import sys, reward.datasets; print({'torch', 'pandas', 'scipy', 'openpyxl', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
