import copy
import json
import pickle

import pytest

from rl.prompts import Prompt, epoch_prompts, import_function, load_prompts, metadata_of


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "prompt_source.py").write_text(
        "def some(): return ('a', 'b')\ndef none(): return []\ndef numbers(): return [1]\nlist_ = ['a']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a red circle\n\n  ein grüner Kreis \n", encoding="utf-8")
    assert load_prompts(str(path)) == ["a red circle", "ein grüner Kreis"]


def test_function(module):
    assert load_prompts("prompt_source:some") == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "got nothing"),
        ("prompt_source:none", "at least one prompt"),
        ("prompt_source:numbers", "got 1 (int)"),
        ("prompt_source:other", "has no function 'other'"),
        ("prompt_source:list_", "has no function 'list_'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        (":f", "expected module:function, got ':f'"),
    ],
)
def test_bad_sources(module, spec, message):
    with pytest.raises(ValueError) as caught:
        load_prompts(spec)
    assert message in str(caught.value)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="nowhere.txt"):
        load_prompts("nowhere.txt")


def test_import_function_names_the_field():
    with pytest.raises(ValueError, match="^rewards: "):
        import_function("nothing", "rewards")


def test_json_lines_have_metadata(tmp_path):
    path = tmp_path / "geneval.jsonl"
    path.write_text(
        '\ufeff{"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "two cats"}\n\n'
        '{"caption": "a sign", "text": "OPEN"}\n{"text": "plain"}\n',
        encoding="utf-8",
    )
    prompts = load_prompts(str(path))
    assert prompts == ["two cats", "a sign", "plain"]
    assert metadata_of(prompts[0]) == {"tag": "counting", "include": [{"class": "cat", "count": 2}]}
    assert metadata_of(prompts[1]) == {"text": "OPEN"} and metadata_of(prompts[2]) == {}
    drawn = epoch_prompts(prompts, 6, 0, seed=0)
    assert {metadata_of(prompt).get("tag") for prompt in drawn} == {"counting", None}


@pytest.mark.parametrize("line", ["{", "[1]", '{"tag": 1}', '{"prompt": 3}'])
def test_lines_without_a_prompt_are_named(tmp_path, line):
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt": "x"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"p.jsonl, line 2, got "):
        load_prompts(str(path))


def test_a_function_returns_pairs_as_trls_did(tmp_path, monkeypatch):
    (tmp_path / "paired_source.py").write_text("def pairs(): return [('a', {'n': 1}), 'b', ['c', {}]]\n")
    monkeypatch.syspath_prepend(tmp_path)
    prompts = load_prompts("paired_source:pairs")
    assert prompts == ["a", "b", "c"] and [dict(metadata_of(p)) for p in prompts] == [{"n": 1}, {}, {}]


def test_columns_of_a_data_set_are_metadata(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {"prompt": ["a", "b"], "n": [1, 2], "image": [{"bytes": b"x", "path": None}] * 2}
    data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    (tmp_path / "set").mkdir()
    data.to_parquet(tmp_path / "set" / "train.parquet")
    prompts = load_prompts(f"datasets:{tmp_path / 'set'}")
    assert prompts == ["a", "b"] and [metadata_of(p) for p in prompts] == [{"n": 1}, {"n": 2}]


def test_a_prompt_is_a_string_in_every_other_respect():
    prompt = Prompt("two cats", {"n": 2})
    for other in (pickle.loads(pickle.dumps(prompt)), copy.deepcopy(prompt)):
        assert other == prompt and hash(other) == hash("two cats") and other.metadata == {"n": 2}
    assert json.dumps([prompt]) == '["two cats"]' and f"{prompt}!" == "two cats!"


def test_every_prompt_once_before_any_comes_again():
    prompts = [str(i) for i in range(7)]
    drawn = [prompt for epoch in range(7) for prompt in epoch_prompts(prompts, 3, epoch, seed=0)]
    for lap in range(3):
        assert sorted(drawn[7 * lap : 7 * lap + 7]) == prompts
    assert drawn[:7] != drawn[7:14]


def test_a_function_of_seed_and_epoch_alone():
    prompts = [str(i) for i in range(100)]
    assert epoch_prompts(prompts, 10, 5, seed=1) == epoch_prompts(prompts, 10, 5, seed=1)
    assert epoch_prompts(prompts, 10, 5, seed=1) != epoch_prompts(prompts, 10, 5, seed=2)
    assert len(epoch_prompts(["only"], 4, 0, seed=0)) == 4


def test_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("id,caption\n1,a red ring\n2,ein grüner Kreis\n", encoding="utf-8")
    (folder / "test.csv").write_text("id,caption\n3,a square\n")
    assert load_prompts(f"datasets:{folder}") == ["a red ring", "ein grüner Kreis"]
    assert load_prompts(f"datasets:{folder}?split=test&column=caption") == ["a square"]
    for query, message in (("?column=prompt", "got id, caption"), ("?split=valid", "valid"), ("?spilt=test", "spilt")):
        with pytest.raises(ValueError) as caught:
            load_prompts(f"datasets:{folder}{query}")
        assert message in str(caught.value)
    with pytest.raises(ValueError, match="could not be loaded"):
        load_prompts(f"datasets:{tmp_path / 'missing'}")
