import json
from decimal import Decimal

import pyarrow
import pytest
from pyarrow import parquet

from reward.datasets import load_dataset

ROWS = [
    ("a.png", "a dog, running", 3.5),
    ("pictures/b.png", 'a sign that says "open"', 1),
    ("../outside.png", "two lines\nof a prompt\u2028and a third", 2.25),
]


@pytest.fixture
def folder(tmp_path, put_pictures):
    folder = tmp_path / "data"
    put_pictures(folder / "a.png", folder / "pictures" / "b.png", tmp_path / "outside.png")
    return folder


def write(path, rows=ROWS, names=("image", "prompt", "score")):
    if path.suffix in (".csv", ".tsv"):
        quoted = [names, *((i, '"' + p.replace('"', '""') + '"', s) for i, p, s in rows)]
        mark = "," if path.suffix == ".csv" else "\t"
        path.write_text("\r\n".join(mark.join(map(str, row)) for row in quoted), encoding="utf-8-sig", newline="")
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    else:
        columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
        parquet.write_table(pyarrow.table(columns), path)
    return path


SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_reads_the_same(folder, suffix):
    dataset = load_dataset("table", write(folder / f"scores{suffix}"))
    assert dataset.images == tuple(folder / image for image, _, _ in ROWS)
    assert dataset.prompts == tuple(prompt for _, prompt, _ in ROWS)
    assert dataset.scores.tolist() == [3.5, 1, 2.25]
    assert all(image.is_file() for image in dataset.images)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_of_other_names(folder, suffix):
    path = write(folder / f"scores{suffix}", names=("file", "prompt", "mos"))
    with pytest.raises(ValueError, match=r"expected a column image or file_name .* but there is file, prompt, mos; "):
        load_dataset("table", path)
    dataset = load_dataset("table", path, columns={"image": "file", "score": "mos"})
    assert dataset.scores.tolist() == [3.5, 1, 2.25]
    with pytest.raises(ValueError, match="expected a column stars but there is file, prompt, mos"):
        load_dataset("table", path, columns={"image": "file", "score": "stars"})
    with pytest.raises(ValueError, match="Expected columns to name image, prompt, score but got picture"):
        load_dataset("table", path, columns={"picture": "file"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_line_of_a_bad_row(folder, suffix):
    path = write(folder / f"scores{suffix}", [*ROWS, ("gone.png", "x", 1)])
    line = {".csv": "line 6", ".tsv": "line 6", ".jsonl": "line 4", ".parquet": "row 4"}[suffix]
    with pytest.raises(ValueError, match=rf"scores{suffix}, {line}: expected a picture at .*gone.png"):
        load_dataset("table", path)


def test_absolute_paths(folder, tmp_path):
    path = write(tmp_path / "scores.csv", [(str(folder / "a.png"), "x", 1)])
    assert load_dataset("table", path).images == (folder / "a.png",)


def test_an_unquoted_comma(folder):
    path = folder / "scores.csv"
    path.write_text("image,prompt,score\na.png,a dog, running,3.5\na.png,a dog,2\n")
    with pytest.raises(ValueError, match="line 2: expected 3 fields as in the header but got 4; put a prompt with"):
        load_dataset("table", path)
    assert load_dataset("table", path, skip_bad=True).scores.tolist() == [2]


def test_an_open_quote(folder):
    path = folder / "scores.csv"
    path.write_text('image,prompt,score\na.png,x,1\na.png,"a dog,2\na.png,x,1\n')
    with pytest.raises(ValueError, match="scores.csv, line 3: expected CSV but got .*; put a field with quotes"):
        load_dataset("table", path, skip_bad=True)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_commas_semicolons_and_tabs(folder, suffix, mark):
    path = folder / f"scores{suffix}"
    path.write_text(f'image{mark}prompt{mark}score\na.png{mark}"a, b; c"{mark}1\n')
    dataset = load_dataset("table", path)
    assert dataset.prompts == ("a, b; c",) and dataset.scores.tolist() == [1]
    path.write_text("image|prompt|score\na.png|x|1\n")
    with pytest.raises(ValueError, match=r"line 1: expected a column image .* but there is image\|prompt\|score"):
        load_dataset("table", path)


def test_decimal_commas_where_columns_are_divided_otherwise(folder):
    path = folder / "scores.csv"
    path.write_text("image;prompt;score\na.png;x;3,5\na.png;x;1,000.5\n")
    assert load_dataset("table", path, skip_bad=True).scores.tolist() == [3.5]
    path.write_text('image,prompt,score\na.png,x,"3,5"\n')
    with pytest.raises(ValueError, match="write decimals with a point"):
        load_dataset("table", path)


def test_a_column_twice(folder):
    path = folder / "scores.csv"
    path.write_text("image,prompt,score,score\na.png,x,1,2\n")
    with pytest.raises(ValueError, match="line 1: expected one column score but there are 2"):
        load_dataset("table", path)


def test_an_empty_file(folder):
    path = folder / "scores.csv"
    path.touch()
    with pytest.raises(ValueError, match="expected a column image .* but there is none"):
        load_dataset("table", path)


def test_another_encoding(folder):
    path = folder / "scores.csv"
    path.write_bytes("image,prompt,score\na.png,x,1\na.png,café,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="scores.csv, line 3: expected UTF-8 but got the byte 0xe9; save the file"):
        load_dataset("table", path)


def test_another_suffix(folder):
    path = folder / "scores.xlsx"
    path.touch()
    with pytest.raises(ValueError, match="Expected a table ending in .csv, .* .parquet, .tar, or an imagefolder"):
        load_dataset("table", path)


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "expected a JSON object but got .*; correct the line"),
        ("[1]", "expected a JSON object but got a list"),
        ('{"image": "a.png", "prompt": "x"}', "expected a column score or mos or rating but there is image, prompt"),
        ('{"image": "a.png", "prompt": "x", "score": NaN}', "expected a finite score but got nan"),
        ('{"image": "a.png", "prompt": "x", "score": "3"}', r"expected a number as score but got '3' \(str\)"),
        ('{"image": "a.png", "prompt": "x", "score": true}', r"expected a number as score but got True \(bool\)"),
        ('{"image": "a.png", "prompt": "x", "score": null}', "expected a number as score but got nothing"),
        ('{"image": "a.png", "prompt": "x", "score": [1]}', r"expected a number as score but got \[1\] \(list\)"),
        ('{"image": "a.png", "prompt": "x", "score": 1' + 400 * "0" + "}", "expected a finite score but got inf"),
        ('{"image": "a.png", "prompt": ["x"], "score": 1}', r"expected a prompt but got \['x'\] \(list\)"),
        ('{"image": "a.png", "prompt": "\\ud800", "score": 1}', "expected a prompt in Unicode"),
        ('{"image": null, "prompt": "x", "score": 1}', "expected the path of a picture but got nothing"),
        ('{"image": 7, "prompt": "x", "score": 1}', r"expected the path of a picture but got 7 \(int\)"),
        ('{"image": "a\\u0000.png", "prompt": "x", "score": 1}', "expected a picture at "),
        (100_000 * "[", "nested too deeply|recursion"),
    ],
)
def test_bad_json_lines(folder, line, message):
    path = folder / "scores.jsonl"
    path.write_text('{"image": "a.png", "prompt": "x", "score": 1}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"scores.jsonl, line 3: .*({message})"):
        load_dataset("table", path)
    assert len(load_dataset("table", path, skip_bad=True)) == 1


def test_parquet_kinds(folder):
    path = folder / "scores.parquet"
    names = pyarrow.array(["a.png"] * 2).dictionary_encode().cast(pyarrow.large_string())
    scores = pyarrow.array([Decimal("1.25"), Decimal("2.50")])
    parquet.write_table(pyarrow.table({"image": names, "prompt": ["x", "y"], "score": scores}), path)
    assert load_dataset("table", path).scores.tolist() == [1.25, 2.5]
    parquet.write_table(pyarrow.table({"image": names, "prompt": ["x", "y"], "score": [1.0, None]}), path)
    with pytest.raises(ValueError, match="row 2: expected a number as score but got nothing"):
        load_dataset("table", path)
    inside = pyarrow.array([{"bytes": b"...", "path": None}])
    parquet.write_table(pyarrow.table({"image": inside, "prompt": ["x"], "score": [1.0]}), path)
    assert load_dataset("table", path).images[0].read() == b"..."
    for numbers in ([7], [{"path": "a.png"}]):
        parquet.write_table(pyarrow.table({"image": numbers, "prompt": ["x"], "score": [1.0]}), path)
        with pytest.raises(ValueError, match=r"expected pictures in the column 'image' \(paths, bytes, .*it holds"):
            load_dataset("table", path)
    path.write_text("no parquet")
    with pytest.raises(ValueError, match="Expected a Parquet file but could not read .*scores.parquet"):
        load_dataset("table", path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_imagefolder_with_splits(tmp_path, put_pictures, suffix):
    for part, score in (("test", 2.0), ("train", 1.0)):
        put_pictures(tmp_path / part / "1.png")
        write(tmp_path / part / f"metadata{suffix}", [("1.png", part, score)], ("file_name", "prompt", "score"))
    put_pictures(tmp_path / ".cache" / "1.png")
    write(tmp_path / ".cache" / "metadata.csv", [("1.png", "hidden", 9)], ("file_name", "prompt", "score"))
    dataset = load_dataset("table", tmp_path)
    assert dataset.images == (tmp_path / "test" / "1.png", tmp_path / "train" / "1.png")
    assert dataset.prompts == ("test", "train") and dataset.scores.tolist() == [2, 1]


def test_datasets_reads_the_same_imagefolder(tmp_path, put_pictures, monkeypatch):
    # 4.x cannot read a metadata.csv with the oldest pyarrow that is supported
    datasets = pytest.importorskip("datasets", minversion="5.0")
    put_pictures(tmp_path / "set" / "1.png", tmp_path / "set" / "2.png")
    rows = [("1.png", "one", 1.5), ("2.png", "two", 2.5)]
    write(tmp_path / "set" / "metadata.csv", rows, ("file_name", "prompt", "score"))
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "set"), split="train", cache_dir=tmp_path)
    ours = load_dataset("table", tmp_path / "set")
    assert list(ours.prompts) == theirs["prompt"][:] and ours.scores.tolist() == theirs["score"][:]


def test_two_metadata_files(tmp_path):
    for suffix in (".csv", ".jsonl"):
        write(tmp_path / f"metadata{suffix}", names=("file_name", "prompt", "score"))
    with pytest.raises(ValueError, match="Expected one metadata file in a folder but there are .*csv and .*jsonl"):
        load_dataset("table", tmp_path)


def test_a_folder_without_metadata(folder):
    write(folder / "scores.csv")
    with pytest.raises(FileNotFoundError, match="there is no metadata.csv, .jsonl or .parquet in .*; for another"):
        load_dataset("table", folder)
