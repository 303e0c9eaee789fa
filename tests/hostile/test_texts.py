"""Prompts of any Unicode and any length; recipes that YAML turns into more than they are; tables and workbooks."""

import time
import zipfile

import pytest
import torch

from attention_refine.caption_check.question_files import read_questions
from attention_refine.caption_check.questions import make_questions
from benchmarks.fuzz.guard import guarded
from benchmarks.fuzz.tables import Workbooks
from reward import HyperAlignReward
from reward.backbone.tokenization import Tokenizer
from reward.datasets import load_dataset
from reward.files.plain_yaml import parse_plain_yaml, read_plain_yaml
from reward.language.phrases import split_prompt
from reward.scoring.inputs import find_rows
from reward.training.recipe import load_training_config
from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import read_yaml
from tinyworld import weights_path


@pytest.fixture(scope="module")
def reward():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


def test_half_a_surrogate_pair_is_refused_by_its_name(reward, tmp_path):
    with pytest.raises(ValueError, match="prompt 1 has half a surrogate pair"):
        reward(torch.rand(2, 3, 48, 48), ["a ring", "a \ud800 ring"])
    with pytest.raises(ValueError, match="expected Unicode"):
        find_rows([tmp_path], prompt="\udcff")


@pytest.mark.filterwarnings("ignore:.*were cut")
@pytest.mark.parametrize("prompt", ["\0", "\x1b[31m ring", "a" * 100_000, "a ring " * 14_000, " " * 99_999 + "a ring"])
def test_control_characters_and_long_prompts_have_a_score(reward, prompt):
    assert reward(torch.rand(1, 3, 48, 48), [prompt]).isfinite().all()


def test_a_word_of_100_000_letters_takes_no_minutes():
    import open_clip

    tokenizer = Tokenizer(open_clip.tokenizer.SimpleTokenizer())
    started = time.process_time()
    tokens, cut = tokenizer(["aA" * 50_000])
    assert time.process_time() - started < 2
    assert len(cut) == 1 and tokens[0, -1] == tokenizer.open_clip_tokenizer.eot_token_id
    assert torch.equal(tokenizer(["a red ring" + " " * 50_000])[0], tokenizer(["a red ring"])[0])


@pytest.mark.parametrize("prompt", ["² rings", "①  cats", "1" * 5000 + " rings", "٣ rings"])
def test_digits_that_are_no_numbers(prompt):
    make_questions(prompt)
    assert "".join(piece.text for piece in split_prompt(prompt)).replace(" ", "") == "".join(prompt.split())


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "model: &m [1, *m]", "tracker_kwargs: &t {a: *t}", "seed: !!int ''", "seed: !!bool x", "seed: " + "[" * 5000,
     "seed: 2001-13-45", "model: !!python/object/apply:os.system ['true']", "seed: 9" + "9" * 5000, "\x00", "a: b: c"],
)  # fmt: skip
def test_yaml_that_is_more_than_data(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with guarded(tmp_path):
        for read in (lambda path: read_yaml(path, DDPOConfig), load_training_config):
            with pytest.raises(ValueError, match="recipe.yaml is not valid YAML"):
                read(tmp_path / "recipe.yaml")


def test_a_recipe_is_short(tmp_path):
    (tmp_path / "recipe.yaml").write_text("# " + "x" * 200_000)
    with pytest.raises(ValueError, match="at most 100000 bytes but got 200002"):
        read_plain_yaml(tmp_path / "recipe.yaml")
    assert parse_plain_yaml("a: [1, 'x', null]") == {"a": [1, "x", None]}


def test_no_variable_is_set_by_a_recipe(tmp_path):
    for text in ("env: {HOSTILE: 1}", "seed: 1\ntracker_kwargs: {env: {HOSTILE: 1}}\n"):
        (tmp_path / "recipe.yaml").write_text(text)
        with guarded(tmp_path):
            try:
                DDPOConfig(**read_yaml(tmp_path / "recipe.yaml", DDPOConfig))
            except ValueError as error:
                assert "env" in str(error)


@pytest.mark.parametrize("number", ["0x" + "f" * 400, ".inf", ".nan"])
def test_numbers_beyond_floats(tmp_path, number):
    (tmp_path / "a.yaml").write_text(f"train_learning_rate: {number}")
    with pytest.raises(ValueError, match="expected a finite number"):
        DDPOConfig(**read_yaml(tmp_path / "a.yaml", DDPOConfig))
    (tmp_path / "b.yaml").write_text(f"lr_head: {number}")
    with pytest.raises(ValueError, match="Expected lr_head to be finite"):
        load_training_config(tmp_path / "b.yaml")


@pytest.mark.parametrize("row", ["1048576", "1000000000", "100001"])
def test_a_workbook_of_a_million_rows_that_are_not_there(tmp_path, row):
    target = Workbooks(tmp_path)
    sheet = next(place for place, name in enumerate(target.names) if "sheet1" in name)
    content = target.parts[target.names[sheet]].replace(b'<row r="2">', f'<row r="{row}">'.encode())
    assert row.encode() in content
    with pytest.raises(ValueError, match="more than 100000 rows"):
        target.run(bytes([sheet]) + content)


def test_a_workbook_that_unpacks_to_gigabytes(tmp_path):
    target = Workbooks(tmp_path)
    with zipfile.ZipFile(target.pku / "I2IQA_annotation.xlsx", "w", zipfile.ZIP_DEFLATED) as file:
        for name, own in target.parts.items():
            file.writestr(name, own)
        file.writestr("xl/sharedStrings.xml", bytes(9 * 2**20))
    with pytest.raises(ValueError, match="it unpacks to"):
        load_dataset("pku-i2iqa", target.pku, check_images=False)


def test_scores_that_would_fill_the_memory(tmp_path):
    import numpy as np
    import scipy.io

    target = Workbooks(tmp_path)
    scipy.io.savemat(target.aigc / "DATA" / "MOS" / "mosz3.mat", {"MOSz": np.zeros(2_000_000)}, do_compression=True)
    with pytest.raises(ValueError, match="Expected at most 8388608 bytes of a variable"):
        load_dataset("aigciqa2023", target.aigc, check_images=False)


def test_a_damaged_parquet_page_is_a_value_error(tmp_path):
    import pyarrow
    from pyarrow import parquet

    columns = {"image": ["a.png"] * 500, "prompt": ["x y z"] * 500, "score": [0.5] * 500}
    table = pyarrow.table(columns)
    parquet.write_table(table, tmp_path / "t.parquet", compression="none", use_dictionary=False)
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[4:64] = b"\xff" * 60
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(ValueError, match="Expected a Parquet file"):
        load_dataset("table", tmp_path / "t.parquet", check_images=False)
    with pytest.raises(ValueError, match="Expected a Parquet file"):
        list(find_rows([tmp_path / "t.parquet"]))


def test_thousands_of_questions_about_one_prompt_are_put_in_order_at_once(tmp_path):
    count = 3000
    lines = [f"{i},a ring,{i},q{i},{i + 1 if i < count else ''}" for i in range(1, count + 1)]
    text = "item_id,prompt,question_id,question,dependencies\n" + "".join(
        f"1,{line.partition(',')[2]}\n" for line in lines
    )
    (tmp_path / "q.csv").write_text(text)
    started = time.process_time()
    [questions] = read_questions(tmp_path / "q.csv").values()
    assert time.process_time() - started < 2
    assert questions[0].text == f"q{count}" and questions[-1].depends_on == (count - 2,)
