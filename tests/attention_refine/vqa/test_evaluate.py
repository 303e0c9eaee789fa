"""The VQA evaluation on a tiny random LLaVA: rows, resuming, processes, files."""

import csv
import json
import os
import subprocess
import sys

import pytest

from attention_refine.contrastive.config import ContrastiveAttentionConfig
from attention_refine.vlm.loading import load_model
from attention_refine.vqa.answering import Answerer
from attention_refine.vqa.evaluate import evaluate, main
from attention_refine.vqa.layouts import load_questions
from attention_refine.vqa.predictions import model_digest, predict
from attention_refine.vqa.rows import VQARow, table_rows
from attention_refine.vqa.table import score_table
from reward.parallel.processes import Processes
from tests.attention_refine.tiny_world import make_table, save_tiny_llava

CONFIG = ContrastiveAttentionConfig(post_layer=3, candidate_layers=(0, 1), review_layer=4, rho=0.7, lam=0.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, processor = load_model(save_tiny_llava(folder / "model"), "cpu")
    table = make_table(folder)
    return model, processor, load_questions("table", table), folder


def run(world, output, rows, **options):
    model, processor, questions, _ = world
    return evaluate(model, processor, "table", questions, rows, output, batch_size=2, max_new_tokens=3, **options)


def answers(output, name):
    (file,) = (output / "predictions").glob(f"{name}-*.jsonl")
    return [json.loads(line)["answer"] for line in file.read_text().splitlines()]


def test_a_batch_of_mixed_lengths_answers_as_one_by_one(world):
    model, processor, questions, _ = world
    answerer = Answerer(model, processor, max_new_tokens=4)
    assert len({len(q.text) for q in questions[:6]}) == 2
    assert answerer.answers(questions[:6]) == [answerer.answers([q])[0] for q in questions[:6]]


def test_the_instruction_and_a_chat_template_reach_the_prompt(world):
    model, processor, questions, _ = world
    plain = Answerer(model, processor, "two red .").inputs(questions[:1])["input_ids"][0]
    assert "ask" not in processor.tokenizer.decode(plain) and "two red . assistant" in processor.tokenizer.decode(plain)
    processor.chat_template = (
        "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>"
        "{% else %} {{ p['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} no{% endif %}"
    )
    try:
        templated = Answerer(model, processor, "two red .").inputs(questions[:1])["input_ids"][0]
    finally:
        processor.chat_template = None
    assert processor.tokenizer.decode(templated).endswith("two red . no")


def test_rows_are_base_and_the_modes_and_differ_where_they_should(world, tmp_path):
    table = run(world, tmp_path, table_rows(CONFIG))
    assert [line["row"] for line in table] == ["base", "residual", "post_norm", "attention_bias"]
    assert all(line["questions"] == 12 for line in table) and "gain" not in table[0]
    base = answers(tmp_path, "base")
    assert all(answers(tmp_path, mode) != base for mode in ("residual", "post_norm", "attention_bias"))


def test_lambda_one_gives_the_answers_of_base(world, tmp_path):
    same = ContrastiveAttentionConfig.from_dict(CONFIG.to_dict() | {"lam": 1.0})
    table = run(world, tmp_path, table_rows(same))
    assert {tuple(answers(tmp_path, line["row"])) for line in table} == {tuple(answers(tmp_path, "base"))}
    assert all(line["gain"] == line["gain_low"] == line["gain_high"] == 0 for line in table[1:])


class Stopped(Exception):
    pass


def test_an_interrupted_run_goes_on_and_ends_the_same(world, tmp_path, monkeypatch):
    expected = run(world, tmp_path / "whole", table_rows(CONFIG))
    asked = []
    honest = Answerer.answers

    def counted(self, questions):
        asked.extend(q.id for q in questions)
        if len(asked) == 10:  # in the second part (4 batches of 2) of the first row
            raise Stopped
        return honest(self, questions)

    monkeypatch.setattr(Answerer, "answers", counted)
    with pytest.raises(Stopped):
        run(world, tmp_path / "cut", table_rows(CONFIG))
    asked.clear()
    asked.append("so that it is not stopped again at ten")
    assert run(world, tmp_path / "cut", table_rows(CONFIG)) == expected
    assert asked[1:5] == ["8", "9", "10", "11"] and len(asked) == 1 + 4 + 3 * 12
    cut, whole = ([p.name for p in sorted((tmp_path / name).rglob("*"))] for name in ("cut", "whole"))
    assert cut == whole
    asked.clear()
    run(world, tmp_path / "cut", table_rows(CONFIG))
    assert not asked


def test_other_settings_questions_and_weights_are_asked_anew(world, tmp_path):
    model, processor, questions, _ = world
    options = {"score": lambda answer, given: 0.0, "folder": tmp_path, "batch_size": 2}
    answerer = Answerer(model, processor, max_new_tokens=1)

    def files(row, questions, key):
        predict(answerer, row, questions, model_key=key, **options)
        return len(list(tmp_path.glob("*.jsonl")))

    assert files(VQARow("base"), questions[:2], "a") == 1
    assert files(VQARow("base"), questions[:2], "a") == 1
    assert files(VQARow("base"), questions[:4], "a") == 2
    assert files(VQARow("base"), questions[:2], "b") == 3
    assert files(VQARow("base", CONFIG), questions[:2], "a") == 4
    before = model_digest(model)
    weight = model.lm_head.weight
    kept = weight.data.clone()
    weight.data += 1e-3
    assert model_digest(model) != before
    weight.data.copy_(kept)
    assert model_digest(model) == before


def test_processes_share_the_parts(world, tmp_path):
    expected = run(world, tmp_path / "one", table_rows(CONFIG, ["residual"]))

    others = [Processes(0, 2), Processes(1, 2)]
    for process in others:
        object.__setattr__(process, "wait", lambda: None)
    rows = table_rows(CONFIG, ["residual"])
    assert run(world, tmp_path / "two", rows, processes=others[1]) == []
    assert list((tmp_path / "two" / "predictions").glob("*.jsonl")) == []
    assert run(world, tmp_path / "two", rows, processes=others[0]) == expected


def test_two_real_processes_give_the_file_of_one(world, tmp_path):
    folder = world[3]
    options = [
        "--dataset", "table", "--data", str(folder / "questions.csv"), "--model", str(folder / "model"), "--quiet",
        "--batch-size", "1", "--max-new-tokens", "2", "--modes", "post_norm", "--layers", str(folder / "proposal.json"),
    ]  # fmt: skip
    layers = {"post_layer": 3, "candidate_layers": [0, 1], "review_layer": 4, "reasons": "made up"}
    (folder / "proposal.json").write_text(json.dumps(layers))
    assert main([*options, "--output", str(tmp_path / "one")]) == 0
    launch = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "attention_refine.vqa",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, *options, "--output", str(tmp_path / "two")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = ((tmp_path / name / "results.csv").read_text() for name in ("one", "two"))
    assert one == two
    base, row = list(csv.DictReader(one.splitlines()))
    assert base["metric"] == "exact match" and base["mode"] == "" and row["candidate_layers"] == "0 1"
    assert row["mode"] == "post_norm" and row["questions"] == "12"


def test_wrong_input_is_told_in_one_line(world, tmp_path, capsys):
    folder = world[3]
    options = ["--dataset", "gqa", "--data", str(tmp_path), "--model", str(folder / "model"), "--output", str(tmp_path)]
    assert main(options) == 2
    told = capsys.readouterr().err
    assert "testdev_balanced_questions.json" in told and len(told.splitlines()) == 1


def test_gains_are_paired_and_drawn_by_picture():
    base = [0.0, 1.0] * 50
    images = [str(i // 2) for i in range(100)]
    table = score_table({"base": base, "better": [min(1, s + 0.1) for s in base]}, images)
    assert table[0]["score"] == 50 and table[0]["low"] == table[0]["high"] == 50  # every picture has one right answer
    assert table[1]["gain"] == pytest.approx(5) and table[1]["gain_low"] == pytest.approx(5)
    apart = score_table({"base": base}, [str(i) for i in range(100)])[0]
    assert apart["low"] == pytest.approx(40, abs=3) and apart["high"] == pytest.approx(60, abs=3)
