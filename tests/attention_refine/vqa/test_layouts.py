"""The data sets' published file layouts, on small made-up files."""

import json

import pytest
from PIL import Image

from attention_refine.vqa.layouts import DATASETS, load_questions


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def picture(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(file)


def annotated(*answers):
    return [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(answers)]


def make_vqav2(folder):
    write(
        folder / "v2_OpenEnded_mscoco_val2014_questions.json",
        {
            "info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}, "data_subtype": "val2014",
            "questions": [
                {"image_id": 42, "question": "Is it red?", "question_id": 42000},
                {"image_id": 42, "question": "How many?", "question_id": 42001},
            ],
        },
    )  # fmt: skip
    write(
        folder / "v2_mscoco_val2014_annotations.json",
        {
            "annotations": [  # in another order than the questions
                {"question_id": 42001, "image_id": 42, "question_type": "how many", "answer_type": "number",
                 "multiple_choice_answer": "2", "answers": annotated(*["2"] * 7, *["3"] * 3)},
                {"question_id": 42000, "image_id": 42, "question_type": "is it", "answer_type": "yes/no",
                 "multiple_choice_answer": "yes", "answers": annotated(*["yes"] * 10)},
            ]
        },
    )  # fmt: skip
    picture(folder / "val2014" / "COCO_val2014_000000000042.jpg")


def make_gqa(folder):
    write(
        folder / "testdev_balanced_questions.json",
        {
            "201307251": {"semantic": [], "question": "Is it overcast?", "imageId": "n161313", "isBalanced": True,
                          "groups": {}, "answer": "no", "semanticStr": "", "types": {}, "fullAnswer": "No, it is not."},
            "201640614": {"question": "What colour is it?", "imageId": "n161313", "answer": "dark blue"},
        },
    )  # fmt: skip
    picture(folder / "images" / "n161313.jpg")


def make_okvqa(folder):
    write(
        folder / "OpenEnded_mscoco_val2014_questions.json",
        {"questions": [{"image_id": 297147, "question": "What sport?", "question_id": 2971475}]},
    )
    one = {"raw_answer": "racing", "answer": "race", "answer_confidence": "yes"}
    answers = [{"answer_id": i + 1} | one for i in range(10)]
    write(
        folder / "mscoco_val2014_annotations.json",
        {"annotations": [{"image_id": 297147, "question_id": 2971475, "answers": answers, "question_type": "four"}]},
    )
    picture(folder / "val2014" / "COCO_val2014_000000297147.jpg")


def make_vizwiz(folder):
    write(
        folder / "val.json",
        [{"image": "VizWiz_val_00000000.jpg", "question": "Ok. There is another picture I hope it is a better one.",
          "answers": annotated(*["unanswerable"] * 6, *["unsuitable"] * 4), "answer_type": "unanswerable",
          "answerable": 0}],
    )  # fmt: skip
    picture(folder / "val" / "VizWiz_val_00000000.jpg")


def make_textvqa(folder):
    write(
        folder / "TextVQA_0.5.1_val.json",
        {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1",
         "data": [{"question": "what is the brand?", "image_id": "003a8ae2ef43b901", "question_id": 34602,
                   "image_classes": ["Camera"], "image_width": 1024, "image_height": 664, "set_name": "val",
                   "question_tokens": ["what"], "answers": ["nous les gosses", "dakota", *["dakota digital"] * 8]}]},
    )  # fmt: skip
    picture(folder / "train_images" / "003a8ae2ef43b901.jpg")


def make_docvqa(folder):
    write(
        folder / "val_v1.0_withQT.json",
        {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": "val",
         "data": [{"questionId": 49153, "question": "What is the actual value?", "docId": 14465,
                   "question_types": ["figure/diagram"], "image": "documents/pybv0228_81.png",
                   "ucsf_document_id": "pybv0228", "ucsf_document_page_no": "81", "answers": ["0.28", ".28"],
                   "data_split": "val"}]},
    )  # fmt: skip
    picture(folder / "documents" / "pybv0228_81.png")


def make_table(folder):
    write(folder / "mine.csv", 'image,question,answer\na.png,"Is it\nred, or not?",yes\na.png,How many?,2\n')
    picture(folder / "a.png")


MAKERS = {
    "vqav2": make_vqav2, "gqa": make_gqa, "okvqa": make_okvqa, "vizwiz": make_vizwiz, "textvqa": make_textvqa,
    "docvqa": make_docvqa, "table": make_table,
}  # fmt: skip
FIRST = {
    "vqav2": ("42000", "COCO_val2014_000000000042.jpg", "Is it red?", "yes", 10),
    "gqa": ("201307251", "n161313.jpg", "Is it overcast?", "no", 1),
    "okvqa": ("2971475", "COCO_val2014_000000297147.jpg", "What sport?", "race", 10),
    "vizwiz": ("VizWiz_val_00000000.jpg", "VizWiz_val_00000000.jpg", "Ok. There is", "unanswerable", 10),
    "textvqa": ("34602", "003a8ae2ef43b901.jpg", "what is the brand?", "nous les gosses", 10),
    "docvqa": ("49153", "pybv0228_81.png", "What is the actual value?", "0.28", 2),
    "table": ("0", "a.png", "Is it\nred, or not?", "yes", 1),
}


def place(name, folder):
    return folder / "mine.csv" if name == "table" else folder


@pytest.mark.parametrize("name", DATASETS)
def test_the_published_layout_is_read(name, tmp_path):
    MAKERS[name](tmp_path)
    question = load_questions(name, place(name, tmp_path))[0]
    key, image, text, answer, count = FIRST[name]
    assert (question.id, question.image.name, question.answers[0], len(question.answers)) == (key, image, answer, count)
    assert question.image.is_file() and question.text.startswith(text)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("vqav2", "Yes.", 1), ("gqa", "No.", 1), ("okvqa", "race", 1), ("okvqa", "racing", 0),
        ("vizwiz", "Unanswerable", 1), ("textvqa", "Dakota Digital", 1), ("textvqa", "dakota", 0.3),
        ("docvqa", "0.2", 0.75), ("table", "Yes", 1),
    ],
)  # fmt: skip
def test_each_is_scored_by_its_own_metric(name, answer, expected, tmp_path):
    MAKERS[name](tmp_path)
    question = load_questions(name, place(name, tmp_path))[0]
    assert DATASETS[name].score(answer, question.answers) == pytest.approx(expected)


def test_answers_belong_to_their_questions_in_whatever_order(tmp_path):
    make_vqav2(tmp_path)
    assert {q.text: q.answers[0] for q in load_questions("vqav2", tmp_path)} == {"Is it red?": "yes", "How many?": "2"}


def test_docvqa_without_question_types(tmp_path):
    make_docvqa(tmp_path)
    (tmp_path / "val_v1.0_withQT.json").rename(tmp_path / "val_v1.0.json")
    assert load_questions("docvqa", tmp_path)[0].id == "49153"


def test_jsonl_table_with_several_answers(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "t.jsonl", '{"image": "a.png", "question": "Which?", "answer": ["sofa", "couch"]}\n')
    assert load_questions("table", tmp_path / "t.jsonl")[0].answers == ("sofa", "couch")


def test_a_limit_takes_questions_from_the_whole_file(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "t.tsv", "image\tquestion\tanswer\n" + "".join(f"a.png\tq{i}\ty\n" for i in range(10)))
    assert [q.text for q in load_questions("table", tmp_path / "t.tsv", limit=4)] == ["q0", "q2", "q5", "q7"]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="data set among vqav2"):
        load_questions("vqa", tmp_path)
    with pytest.raises(ValueError, match="split of gqa among testdev_balanced"):
        load_questions("gqa", tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="testdev_balanced_questions.json"):
        load_questions("gqa", tmp_path)
    make_gqa(tmp_path)
    (tmp_path / "images" / "n161313.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="n161313.jpg"):
        load_questions("gqa", tmp_path)


def test_questions_without_answers_or_twice_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "t.csv", "image,question,answer\na.png,q,\n")
    with pytest.raises(ValueError, match="0 has none"):
        load_questions("table", tmp_path / "t.csv")
    write(tmp_path / "t.csv", "image,question\na.png,q\n")
    with pytest.raises(ValueError, match="missing: answer"):
        load_questions("table", tmp_path / "t.csv")
    write(tmp_path / "t.csv", "image,question,answer\n")
    with pytest.raises(ValueError, match="found none"):
        load_questions("table", tmp_path / "t.csv")
    make_vizwiz(tmp_path)
    write(tmp_path / "val.json", json.loads((tmp_path / "val.json").read_text()) * 2)
    with pytest.raises(ValueError, match="occurs twice"):
        load_questions("vizwiz", tmp_path)
