import pytest

from reward.files.quoting import MOST, MOST_OF_TEXT, quoted, shortened


@pytest.mark.parametrize("value", ["a red ring", "", b"ab", 3, 2.5, None, True, ["a", 1], {"a": [1, 2]}, ("x",)])
def test_what_is_short_is_shown_whole(value):
    assert quoted(value) == repr(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [("x" * 10_000, "(10000 characters)"), (b"\x89PNG" * 5000, "(20000 bytes)"), (bytearray(500), "(500 bytes)"),
     ("\0" * 79, "(79 characters)"), ("\n" * 10_000, "(10000 characters)")],
)  # fmt: skip
def test_what_is_long_says_how_long_it_was(value, size):
    text = quoted(value)
    assert text.endswith(f"... {size}") and len(text) < MOST + 40 and text.startswith(repr(value)[:40])


@pytest.mark.parametrize(
    "value",
    [{"bytes": b"\x89PNG" * 10**6, "path": None}, [b"\0" * 10**6] * 1000, list(range(10**6)), 10**4000,
     {str(i): "x" * 1000 for i in range(1000)}, [[[[[["deep" * 100] * 9] * 9] * 9] * 9] * 9], {"x" * 10**6},
     Exception("y" * 10**6)],
)  # fmt: skip
def test_what_holds_other_values_is_cut_too(value):
    assert len(quoted(value)) <= 2 * MOST + 3


def test_a_dict_with_a_picture_keeps_its_keys():
    assert quoted({"bytes": b"\x89PNG" * 1000, "path": None}).startswith("{'bytes': b'\\x89PNG")


def test_text_keeps_its_start_and_its_end():
    text = shortened("pictures/" + "x" * 10_000 + "/ring.png")
    assert text.startswith("pictures/xx") and text.endswith("xx/ring.png (10018 characters)")
    assert len(text) < MOST_OF_TEXT + 40
    assert shortened("pictures/ring.png") == "pictures/ring.png"
    assert shortened(ValueError("short")) == "short"
