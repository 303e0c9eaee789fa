import json

import pytest

from attention_refine.caption_check.question_files import read_questions
from attention_refine.caption_check.questions import Question

RING = (Question("Is there a ring?", "entity"), Question("Is the ring red?", "attribute", (0,)))


def test_a_csv_of_dsg(tmp_path):
    path = tmp_path / "dsg.csv"
    path.write_text(
        "item_id,text,proposition_id,dependency,category_broad,tuple,question_natural_language\n"
        "a1,a red ring,2,1,attribute,attribute - color,Is the ring red?\n"
        "a1,a red ring,1,0,entity,entity - whole,Is there a ring?\n"
        'b7,"two, or three rings",1,,other,,"Are there two rings, or three?"\n'
    )
    assert read_questions(path) == {
        "a red ring": RING,
        "two, or three rings": (Question("Are there two rings, or three?", "other"),),
    }


def test_a_csv_of_ours(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffid,prompt,question,dependencies\n1,a ring,Is there a ring?,\n1,a ring,Is it round?,1\n")
    assert read_questions(path) == {"a ring": (Question("Is there a ring?"), Question("Is it round?", "", (0,)))}


@pytest.mark.parametrize(
    "data",
    [
        {"a1": {"prompt": "a red ring", "qid2question": {"2": "Is the ring red?", "1": "Is there a ring?"},
                "qid2dependency": {"1": [0], "2": [1]},
                "qid2tuple": {"1": "entity - whole (ring)", "2": "attribute - color (ring, red)"}}},
        [{"id": 4, "prompt": "a red ring", "questions": ["Is there a ring?", "Is the ring red?"],
          "dependencies": [[0], [1]]}],
        [{"id": 4, "prompt": "a red ring", "questions": ["Is there a ring?", "Is the ring red?"],
          "dependencies": {"2": "1"}}],
    ],
)  # fmt: skip
def test_json(tmp_path, data):
    path = tmp_path / "dsg.json"
    path.write_text(json.dumps(data))
    (questions,) = read_questions(path).values()
    assert [(q.text, q.depends_on) for q in questions] == [(q.text, q.depends_on) for q in RING]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "ending in .csv or .json"),
        ("a.csv", "prompt,query\na,b\n", "expected a column question or question_natural_language, got prompt, query"),
        ("a.csv", "prompt,question\n", "expected questions, got none"),
        ("a.csv", "prompt,question\na ring,\n", "line 2: expected a prompt and a question"),
        ("a.csv", "prompt,question_id,question,dependency\na ring,1,Is it?,3\n", "depends on 3, which is not there"),
        ("a.csv", "prompt,question_id,question,dependency\nx,1,A?,2\nx,2,B?,1\n", "1, 2 depend on one another"),
        ("a.csv", "prompt,question_id,question\nx,1,A?\nx,1,B?\n", "a different id for each question"),
        ("a.csv", "id,prompt,question\n1,x,A?\n1,y,B?\n", "expected the prompt of the rows of '1' before, 'x'"),
        ("a.csv", "id,prompt,question\n1,x,A?\n2,x,B?\n", "expected each prompt once, got 'x' again"),
        ("a.json", "{", "expected JSON but got"),
        ("a.json", "[3]", "expected prompt and questions"),
        ("a.json", '[{"prompt": "x", "questions": [3]}]', "expected text, got 3"),
        ("a.json", '"x"', "expected questions, got none"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_questions(tmp_path / name)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none at"):
        read_questions(tmp_path / "a.csv")
