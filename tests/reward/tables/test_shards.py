"""WebDataset shards as `webdataset` writes them."""

import io
import json
import tarfile
import tracemalloc

import pytest
import webdataset

from reward.tables.rows import Asked
from reward.tables.shards import expand_braces, read_shard
from tests.reward.tables.conftest import PROMPTS, encoded, redness

ASKED = Asked(("image", "prompt"))


def write(path, samples):
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def rows_of(path, asked=ASKED):
    return list(read_shard(path, asked, path.name))


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("caption", ["txt", "json", "both"])
def test_what_webdataset_writes(tmp_path, kind, caption):
    def sample(number):
        text = {"txt": PROMPTS[number]} if caption != "json" else {}
        about = {"json": {"caption": PROMPTS[number], "score": number}} if caption != "txt" else {}
        picture = encoded(50 * number, "JPEG" if kind == "jpg" else kind.upper())
        return {"__key__": f"sub/{number:06d}", kind: picture, **text, **about}

    rows = rows_of(write(tmp_path / "s.tar", map(sample, range(5))))
    assert [row.cells["prompt"] for row in rows] == PROMPTS
    assert [redness(row.cells["image"]) for row in rows] == pytest.approx([0, 50, 100, 150, 200], abs=2)
    assert str(rows[3].cells["image"]) == f"s.tar/sub/000003.{kind}" and rows[3].where == "s.tar, sample sub/000003"
    if caption != "txt":
        scored = rows_of(tmp_path / "s.tar", Asked(("image", "prompt", "score")))
        assert [row.cells["score"] for row in scored] == [0, 1, 2, 3, 4]


def test_samples_that_cannot_be_used_are_problems_of_their_own(tmp_path):
    good = {"png": encoded(1), "txt": "x"}
    samples = [
        {"png": encoded(1)}, {"txt": "x"}, {"png": b"1", "json": b"[1]"}, {"png": b"1", "json": b"{"},
        {"png": b"1", "txt": b"\xff"}, good, {"png": b"1", "json": b"[" * 100_000},
        {"png": b"1", "txt": b"x" * (2**20 + 1)},
    ]  # fmt: skip
    keyed = [{"__key__": key, **sample} for key, sample in zip("abcdefgh", samples, strict=True)]
    rows = rows_of(write(tmp_path / "s.tar", keyed))
    assert [row.where[-1] for row in rows] == list("abcdefgh")
    assert [row.where[-1] for row in rows if not row.problem] == ["f"]


def test_columns_are_named(tmp_path):
    sample = {"__key__": "a", "left.png": encoded(10), "png": encoded(20), "json": {"words": "x", "caption": "y"}}
    path = write(tmp_path / "s.tar", [sample])
    asked = Asked(("image", "prompt"), {"image": "left.png", "prompt": "words"})
    [row] = rows_of(path, asked)
    assert redness(row.cells["image"]) == 10 and row.cells["prompt"] == "x"


def test_a_compressed_a_cut_and_a_wrong_file(tmp_path):
    samples = [{"__key__": str(n), "png": encoded(n), "txt": "x"} for n in range(3)]
    with tarfile.open(tmp_path / "z.tar", "w:gz") as tar:
        info = tarfile.TarInfo("a.png")
        tar.addfile(info, io.BytesIO())
    (tmp_path / "n.tar").write_bytes(b"no tar" * 200)
    for name in ("z.tar", "n.tar"):
        with pytest.raises(ValueError, match=f"Expected a tar file, not a compressed one, but could not read {name}"):
            rows_of(tmp_path / name)
    whole = write(tmp_path / "s.tar", samples)
    rows = rows_of(whole)
    data = whole.read_bytes()
    whole.write_bytes(data[:600])
    with pytest.raises(ValueError, match="the shard ends after"):
        rows[1].cells["image"].read()


def test_links_and_folders_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        text = tarfile.TarInfo("a.txt")
        text.size = 1
        tar.addfile(text, io.BytesIO(b"x"))
    [row] = rows_of(tmp_path / "s.tar")
    assert "expected a column image" in row.problem


def test_headers_are_not_held(tmp_path):
    def peak(count):
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            for number in range(count):
                for name, data in ((f"{number}.png", b"1"), (f"{number}.json", json.dumps({"text": "x"}).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        tracemalloc.start()
        assert sum(1 for _ in read_shard(tmp_path / "s.tar", ASKED, "s")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(2_000) - peak(200) < 1_800 * 8


def test_braces():
    assert expand_braces("s-{000..002}.tar") == ["s-000.tar", "s-001.tar", "s-002.tar"]
    assert expand_braces("{a,b}-{8..10}.tar") == [f"{x}-{n}.tar" for x in "ab" for n in (8, 9, 10)]
    assert expand_braces("plain.tar") == ["plain.tar"]
    for wrong in ("s-{a..c}.tar", "s-{x}.tar"):
        with pytest.raises(ValueError, match="Expected braces as in"):
            expand_braces(wrong)
