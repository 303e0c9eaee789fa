import pytest

from reward.datasets import load_dataset

HEADER = ("Image_prompt", "Text_prompt", "Generated_image", "MOS_q", "MOS_a", "MOS_c")
ROWS = [
    ("000.jpg", "corgi, happy", "SD_000_00.jpg", 1.71, 1.41, 3.58),
    ("001.jpg", "white dog", "MJ_001_11.jpg", 2.2, 1.8, 4),
]
NAMES = [row[2] for row in ROWS]


@pytest.mark.parametrize("header", [[HEADER], []])
def test_the_workbook(tmp_path, put_pictures, write_workbook, header):
    write_workbook(tmp_path / "I2IQA_annotation.xlsx", [*header, *ROWS, (None,) * 6])
    put_pictures(*(tmp_path / "Generated_image" / "All" / name for name in NAMES))
    dataset = load_dataset("pku-i2iqa", tmp_path)
    assert dataset.images == tuple(tmp_path / "Generated_image" / "All" / name for name in NAMES)
    assert dataset.prompts == ("corgi, happy", "white dog")
    # correspondence, not quality
    assert dataset.scores.tolist() == [3.58, 4]


def test_bad_rows_of_the_workbook(tmp_path, put_pictures, write_workbook):
    rows = [HEADER, ROWS[0], (*ROWS[1][:5], "good"), ROWS[0][:4], ("0.jpg", None, NAMES[0], 1, 1, 1), ROWS[1]]
    path = write_workbook(tmp_path / "I2IQA_annotation.xlsx", rows)
    put_pictures(tmp_path / "Generated_image" / "All" / NAMES[0])
    dataset = load_dataset("pku-i2iqa", tmp_path, skip_bad=True)
    assert dataset.prompts == ("corgi, happy",)
    assert [line.split(": ")[0] for line in dataset.bad] == [f"{path}, row {n}" for n in (3, 4, 5, 6)]
    with pytest.raises(ValueError, match=r"annotation.xlsx, row 3: expected a picture at .*MJ_001_11.jpg"):
        load_dataset("pku-i2iqa", tmp_path)


def test_the_tsv_form(tmp_path, put_pictures):
    lines = [f"Generated_image/All/{name}\t{q}\t{a}\t{c}\t{prompt}" for _, prompt, name, q, a, c in ROWS]
    (tmp_path / "scores.tsv").write_text("\n".join(lines))
    put_pictures(*(tmp_path / "Generated_image" / "All" / name for name in NAMES))
    dataset = load_dataset("pku-i2iqa", tmp_path)
    assert dataset.images[1] == tmp_path / "Generated_image" / "All" / NAMES[1]
    assert dataset.scores.tolist() == [3.58, 4] and dataset.prompts == ("corgi, happy", "white dog")
