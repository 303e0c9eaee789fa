"""The probe on a tiny random LLaVA: curves against eager attention, files, command line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from attention_refine.probes.attention_shift import AttentionShift, measure_shift
from attention_refine.probes.layer_proposal import LayerProposal
from attention_refine.probes.probe import Probe, main, probe, write_probe
from attention_refine.vlm.loading import load_model
from attention_refine.vqa.answering import Answerer
from attention_refine.vqa.layouts import VQAQuestion, load_questions
from tests.attention_refine.conftest import IMAGE
from tests.attention_refine.tiny_world import make_table, save_tiny_llava


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, processor = load_model(save_tiny_llava(folder / "model"), "cpu")
    return model, processor, load_questions("table", make_table(folder, 8)), folder


@pytest.fixture(scope="module")
def seen_answers(world):
    """The questions with what the model says as their answers: it is right with the image, and less so without."""
    model, processor, questions, _ = world
    told = Answerer(model, processor, max_new_tokens=3).answers(questions)
    return [VQAQuestion(q.id, q.image, q.text, (text,)) for q, text in zip(questions, told, strict=True)]


def test_shift_is_that_of_eager_attention(world):
    model, processor, questions, _ = world
    answerer = Answerer(model, processor)
    shift = measure_shift(answerer, questions[:4], batch_size=2)
    inputs = answerer.inputs(questions[:2])
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            attentions = model(**inputs, output_attentions=True).attentions
    finally:
        model.set_attn_implementation("sdpa")
    image = inputs["input_ids"] == IMAGE
    for sample in range(2):
        rows = [a[sample, :, -1].mean(0)[image[sample]].double() for a in attentions]
        np.testing.assert_allclose(shift.image_share[sample], [r.sum() for r in rows], atol=1e-5)
        p = [r / r.sum() for r in rows]
        expected = [[float(((a.sqrt() - b.sqrt()) ** 2).sum() / 2) ** 0.5 for a in p] for b in p]
        np.testing.assert_allclose(shift.distance[sample], expected, atol=1e-4)
    assert shift.image_share.shape == (4, 6) and shift.distance.max() <= 1


def test_steps_are_distances_to_the_layer_before():
    distance = np.arange(18.0).reshape(2, 3, 3)
    steps = AttentionShift(np.zeros((2, 3)), distance).steps()
    assert np.isnan(steps[:, 0]).all() and steps[0, 1:].tolist() == [3, 7]


def test_a_prompt_without_an_image_is_refused(world):
    model, processor, questions, _ = world
    answerer = Answerer(model, processor)
    answerer.inputs = lambda batch: {"input_ids": torch.tensor([[1, 5, 6]])}
    with pytest.raises(ValueError, match="image tokens in every prompt"):
        measure_shift(answerer, questions[:1], 1)


def test_probe_of_a_model_against_its_own_answers(world, seen_answers, tmp_path):
    model, processor, _, _ = world
    found = probe(model, processor, "table", seen_answers, tmp_path, batch_size=4, max_new_tokens=3)
    accuracy = [row["accuracy"] for row in found.masking]
    assert len(accuracy) == 7 and accuracy[6] == 100 and accuracy[0] < 100
    assert sum(row["gain"] for row in found.masking[:6]) == pytest.approx(100 - accuracy[0])
    assert "gain" not in found.masking[6] and "step" not in found.shift[0]
    assert found.proposal is None or found.shift[found.proposal.post_layer]["to_post"] == pytest.approx(0, abs=1e-6)
    again = probe(model, processor, "table", seen_answers, tmp_path, batch_size=4, max_new_tokens=3)
    assert again.masking == found.masking


def test_a_model_that_is_never_right_gets_curves_but_no_proposal(world, tmp_path):
    model, processor, questions, folder = world
    options = [
        "--model", str(folder / "model"), "--data", str(folder / "questions.csv"), "--quiet", "--batch-size", "4",
        "--max-new-tokens", "1", "--limit", "4", "--output", str(tmp_path),
    ]  # fmt: skip
    assert main(options) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "predictions", "masking.csv", "attention_shift.csv", "hellinger.csv", "probe.png",
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "masking.csv").read_text().splitlines()))
    assert [row["layer"] for row in rows] == list("0123456") and {row["accuracy"] for row in rows} == {"0.0000"}


def test_files_and_picture_of_a_probe(tmp_path):
    ends = {"_low": -1, "_high": 1}

    def row(layer, **values):
        return {"layer": layer} | {n + e: v + d for n, v in values.items() for e, d in ({"": 0} | ends).items()}

    masking = [row(i, accuracy=10.0 * i, gain=10.0) for i in range(6)] + [row(6, accuracy=60.0)]
    both = {"image_share": 20.0, "to_post": 0.5}
    shift = [row(0, **both), *(row(i, **both, step=0.2) for i in range(1, 6))]
    found = Probe(masking, shift, np.zeros((6, 6)), LayerProposal(3, (0, 1), 4, ("why",)))
    write_probe(found, tmp_path, "exact match", "a title")
    assert json.loads((tmp_path / "proposal.json").read_text()) == {
        "post_layer": 3, "candidate_layers": [0, 1], "review_layer": 4, "reasons": ["why"],
    }  # fmt: skip
    assert len((tmp_path / "hellinger.csv").read_text().splitlines()) == 7
    with Image.open(tmp_path / "probe.png") as picture:
        assert picture.width > 800 and len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_wrong_input_is_told_in_one_line(tmp_path, capsys):
    options = ["--model", "m", "--data", str(tmp_path / "none.csv"), "--output", str(tmp_path)]
    assert main(options) == 2
    told = capsys.readouterr().err
    assert "none.csv" in told and len(told.splitlines()) == 1
