import numpy as np
import pytest
import scipy.io

from reward.datasets import load_dataset, prompt_key
from reward.datasets.aigciqa2023 import MODELS

PROMPTS = ["a corgi", 'a cartoon of a dog saying "I see"', "A boat "]
COUNT = 6 * len(PROMPTS) * 4


@pytest.fixture
def published(tmp_path, write_workbook):
    """The published form of three prompts: the score of picture i is 30 + i / 10."""
    (tmp_path / "DATA" / "MOS").mkdir(parents=True)
    for number, offset in ((1, 500), (2, 600), (3, 30)):
        scores = offset + np.arange(COUNT).reshape(-1, 1) / 10
        scipy.io.savemat(tmp_path / "DATA" / "MOS" / f"mosz{number}.mat", {"MOSz": scores})
    write_workbook(tmp_path / "AIGCIQA2023_Prompts.xlsx", [("Basic", "Animals", prompt) for prompt in PROMPTS])
    return tmp_path


def test_the_published_form(published, put_pictures):
    put_pictures(*(published / "Image" / "allimg" / f"{i}.png" for i in range(COUNT)))
    dataset = load_dataset("aigciqa2023", published)
    assert len(dataset) == COUNT
    assert dataset.images[17] == published / "Image" / "allimg" / "17.png"
    # mosz3, not mosz1 (quality); model, then prompt, then picture
    assert np.allclose(dataset.scores, 30 + np.arange(COUNT) / 10)
    assert dataset.prompts[:9] == tuple([PROMPTS[0]] * 4 + [PROMPTS[1]] * 4 + [PROMPTS[2]])
    assert dataset.prompts[12:16] == tuple([PROMPTS[0]] * 4)


def test_pictures_in_the_models_folders(published, put_pictures):
    names = [f"{model}/{p:03d}-{k}.png" for model in MODELS for p in range(3) for k in (1, 2, 3, 4)]
    put_pictures(*(published / "Image" / name for name in names))
    assert load_dataset("aigciqa2023", published).images == tuple(published / "Image" / name for name in names)


def test_a_missing_picture(published, put_pictures):
    put_pictures(*(published / "Image" / "allimg" / f"{i}.png" for i in range(COUNT) if i != 13))
    with pytest.raises(ValueError) as caught:
        load_dataset("aigciqa2023", published)
    where, image = published / "DATA/MOS/mosz3.mat", published / "Image"
    places = f"{image}/allimg/13.png or {image}/DALLE/000-2.png"
    assert f"{where}, MOSz(14): expected a picture at {places} but there is none" in str(caught.value)
    assert len(load_dataset("aigciqa2023", published, skip_bad=True)) == COUNT - 1


def test_scores_and_prompts_that_do_not_fit(published, write_workbook):
    write_workbook(published / "AIGCIQA2023_Prompts.xlsx", [("Basic", "Animals", prompt) for prompt in PROMPTS[:2]])
    with pytest.raises(ValueError, match=r"mosz3.mat: expected 48 scores \(6 models x 2 prompts .* but got 72"):
        load_dataset("aigciqa2023", published)


def test_damaged_files(published, write_workbook):
    path = published / "DATA" / "MOS" / "mosz3.mat"
    whole = path.read_bytes()
    for damaged in (b"", b"not a mat file", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="Expected a MATLAB file but could not read .*mosz3.mat"):
            load_dataset("aigciqa2023", published)
    for content in ({"MOS": np.ones(72)}, {"MOSz": "text"}):
        scipy.io.savemat(path, content)
        with pytest.raises(ValueError, match="mosz3.mat: expected numbers in the variable MOSz"):
            load_dataset("aigciqa2023", published)
    path.write_bytes(whole)
    workbook = published / "AIGCIQA2023_Prompts.xlsx"
    write_workbook(workbook, [("Basic", "Animals")])
    with pytest.raises(ValueError, match="Prompts.xlsx, row 1: expected challenge, category and prompt but got 2"):
        load_dataset("aigciqa2023", published)
    workbook.write_text("no workbook")
    with pytest.raises(ValueError, match=r"Expected an Excel workbook \(.xlsx\) but could not read .*Prompts.xlsx"):
        load_dataset("aigciqa2023", published)
    workbook.unlink()
    with pytest.raises(FileNotFoundError, match="Expected the prompts of AIGCIQA2023 but there is no .*Prompts.xlsx"):
        load_dataset("aigciqa2023", published)


def test_the_tsv_form(tmp_path, put_pictures):
    lines = [
        "Image/allimg/1.png\t54.7\t42.4\t57.2\ta corgi",
        'Image/allimg/2.png\t54.7\t42.4\t58.5\t"I see"\u2028a dog says',
        'Image/allimg/3.png\t54.7\t42.4\t59\t"open quote',
    ]
    (tmp_path / "scores.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    put_pictures(*(tmp_path / "Image" / "allimg" / f"{i}.png" for i in (1, 2, 3)))
    dataset = load_dataset("aigciqa2023", tmp_path)
    assert dataset.images[0] == tmp_path / "Image" / "allimg" / "1.png"
    assert dataset.prompts == ("a corgi", '"I see"\u2028a dog says', '"open quote')
    assert dataset.scores.tolist() == [57.2, 58.5, 59]


def test_bad_lines_of_the_tsv_form(tmp_path):
    (tmp_path / "scores.tsv").write_text("a.png\t1\t2\t3\tx\nb.png\t1\t2\t3\nc.png\t1\t2\tgood\tx\n")
    with pytest.raises(ValueError, match="scores.tsv, line 2: expected path, quality, .* but got 4 fields"):
        load_dataset("aigciqa2023", tmp_path, check_images=False)
    dataset = load_dataset("aigciqa2023", tmp_path, check_images=False, skip_bad=True)
    assert len(dataset) == 1 and "line 3: expected a number as score but got 'good'" in dataset.bad[1]


def test_both_forms_have_the_same_prompts(published):
    assert {prompt_key(p) for p in PROMPTS} == {
        prompt_key(p) for p in load_dataset("aigciqa2023", published, check_images=False).prompts
    }
