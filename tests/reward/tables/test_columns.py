import pytest

from reward.tables.columns import MissingColumnError, described, find_columns

BOTH = ("image", "prompt")


@pytest.mark.parametrize("image", ["image", "file_name", "path", "img_path", "jpg", "png", "webp"])
@pytest.mark.parametrize("prompt", ["prompt", "text", "caption"])
@pytest.mark.parametrize("score", ["score", "mos", "rating"])
def test_usual_names_are_found(image, prompt, score):
    found = find_columns(["id", score, prompt, image], (*BOTH, "score"), {})
    assert found == {"image": image, "prompt": prompt, "score": score}


def test_the_likelier_name_and_the_named_one_come_first():
    present = ["path", "image", "caption", "prompt"]
    assert find_columns(present, BOTH, {}) == {"image": "image", "prompt": "prompt"}
    assert find_columns(present, BOTH, {"image": "path", "prompt": "caption"}) == {"image": "path", "prompt": "caption"}


def test_spreadsheets_write_capitals_and_exact_names_win():
    assert find_columns(["Image", "PROMPT"], BOTH, {}) == {"image": "Image", "prompt": "PROMPT"}
    assert find_columns(["Image", "image", "prompt"], BOTH, {}) == {"image": "image", "prompt": "prompt"}


def test_what_is_missing_is_named_with_the_way_out():
    with pytest.raises(
        MissingColumnError, match=r"t.csv: expected a column prompt or text or caption but there is image"
    ):
        find_columns(["image"], BOTH, {}, "t.csv")
    with pytest.raises(MissingColumnError, match="expected a column words but there is .*--prompt-column"):
        find_columns(["image", "prompt"], BOTH, {"prompt": "words"})
    assert find_columns(["image"], BOTH, {}, optional=["prompt"]) == {"image": "image"}
    with pytest.raises(MissingColumnError, match="words"):
        find_columns(["image"], BOTH, {"prompt": "words"}, optional=["prompt"])
    with pytest.raises(ValueError, match="expected one column prompt but there are 2"):
        find_columns(["image", "prompt", "prompt"], BOTH, {})


def test_what_was_chosen_in_words():
    assert described("t.csv", {"image": "jpg", "prompt": "text"}) == "t.csv: image from 'jpg', prompt from 'text'"
