import json

import pytest
import torch

from attention_refine.caption_check import question_writing
from attention_refine.caption_check.cli import main
from attention_refine.caption_check.question_writing import load_writer, parse_answer, write_questions
from tests.attention_refine.tiny_captioner import save_tiny_captioner, tiny_captioner, word_tokenizer

ANSWER = """Sure, here are the questions:
1 | entity - whole (dog) | 0 | Is there a dog?
2 | attribute - color (dog, brown) | 1 | Is the dog brown?
- 3 | relation | 1,2,9 | Is the dog left of a cat?
4 | entity | 0 | a statement
2 | entity | 0 | Is it said twice?
"""


def test_lines_become_an_item_of_dsg():
    item = parse_answer("a brown dog", ANSWER)
    assert item["qid2question"] == {"1": "Is there a dog?", "2": "Is the dog brown?", "3": "Is the dog left of a cat?"}
    assert item["qid2dependency"] == {"1": [0], "2": [1], "3": [1, 2]}  # 9 is none
    assert item["qid2tuple"]["2"] == "attribute - color (dog, brown)"


@pytest.fixture
def answers(monkeypatch):
    asked = []

    def answer(writer, text):
        prompt = text.rpartition("Description: ")[2].strip()
        asked.append(prompt)
        return ANSWER if "dog" in prompt else "I am sorry."

    monkeypatch.setattr(question_writing, "_answer", answer)
    return asked


def test_questions_are_kept_and_not_asked_for_again(answers, tmp_path):
    path = tmp_path / "questions.json"
    questions, failed = write_questions(["a brown dog", "a cat", "a brown dog"], (None, None), path)
    assert failed == ["a cat"] and answers == ["a brown dog", "a cat"]
    second = questions["a brown dog"][1]
    assert (second.text, second.kind, second.depends_on) == ("Is the dog brown?", "attribute", (0,))
    again, failed = write_questions(["a brown dog", "two dogs"], (None, None), path)
    assert answers[2:] == ["two dogs"] and set(again) == {"a brown dog", "two dogs"} and not failed
    assert len(json.loads(path.read_text())) == 2


def test_prompts_with_braces_are_asked_as_they_stand(answers, tmp_path):
    write_questions(["a {dog}"], (None, None), tmp_path / "questions.json")
    assert answers == ["a {dog}"]


def test_the_captioner_itself_is_asked(tmp_path):
    model, processor = tiny_captioner()
    questions, failed = write_questions(["a red ring"], (model, processor), tmp_path / "questions.json")
    assert (questions, failed) == ({}, ["a red ring"])  # a random model writes no questions


def test_a_chat_model_is_loaded_by_its_kind(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = word_tokenizer()
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024)  # fmt: skip
    with torch.random.fork_rng():
        LlamaForCausalLM(config).save_pretrained(tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    model, own = load_writer(str(tmp_path / "chat"), "cpu")
    assert isinstance(model, LlamaForCausalLM) and not hasattr(own, "image_processor")
    assert write_questions(["a red ring"], (model, own), tmp_path / "questions.json") == ({}, ["a red ring"])
    assert hasattr(load_writer(str(save_tiny_captioner(tmp_path / "captioner")), "cpu")[1], "image_processor")


def test_both_kinds_of_questions_are_refused(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    given = [str(tmp_path / "a.png"), "--prompt", "a ring", "--output", str(tmp_path / "out"), "--questions", "q.csv"]
    assert main([*given, "--questions-by", "captioner"]) == 2
    assert "either --questions or --questions-by" in capsys.readouterr().err
