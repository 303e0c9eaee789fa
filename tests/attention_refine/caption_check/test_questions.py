import pytest

from attention_refine.caption_check.questions import Question, ask, make_questions, share_of_yes


@pytest.mark.parametrize(
    ("prompt", "questions"),
    [
        ("two red rings", ["Is there a ring in the picture?", "Is there a red ring in the picture?",
                           "Are there exactly two red rings in the picture?"]),
        ("a ring left of a square", ["Is there a ring in the picture?", "Is there a square in the picture?",
                                     "Is there a ring left of a square in the picture?"]),
        ("two cats on a mat", ["Is there a cat in the picture?", "Are there exactly two cats in the picture?",
                               "Is there a mat in the picture?", "Are there two cats on a mat in the picture?"]),
        ("dogs, grass", ["Are there dogs in the picture?", "Is there grass in the picture?"]),
        ("the king", ["Can you see the king in the picture?"]),
        ("Ada Lovelace", ["Can you see Ada Lovelace in the picture?"]),
        ("8k", []),
    ],
)  # fmt: skip
def test_questions_of_a_prompt(prompt, questions):
    made = make_questions(prompt)
    assert [question.text for question in made] == questions
    assert all(parent < place for place, question in enumerate(made) for parent in question.depends_on)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a red ring", [("Is there exactly one red ring in the picture?", (0, 1))]),
        ("an apple left of two squares", [("Is there exactly one apple in the picture?", (0,))]),
        ("a red ring above a blue ring", [("Is there exactly one red ring in the picture?", (0, 1)),
                                          ("Is there exactly one blue ring in the picture?", (0, 2))]),
        ("a ring above a red ring", [("Is there exactly one red ring in the picture?", (0, 1))]),
        ("two rings", []), ("the king", []), ("dogs", []), ("8k", []),
    ],
)  # fmt: skip
def test_one_and_no_more_is_asked_for_on_demand(prompt, asked):
    before, made = make_questions(prompt), make_questions(prompt, exactly_one=True)
    assert made[: len(before)] == before
    assert made[len(before) :] == tuple(Question(text, "number", parents) for text, parents in asked)


def test_a_wording_has_a_place_for_what_is_asked():
    assert ask("Does the picture show {}?", " a {ring}. ") == "Does the picture show a {ring}?"
    with pytest.raises(ValueError, match="in the place of what is asked for, got 'Is it so\\?'"):
        ask("Is it so?", "a ring")


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("a pizza without cheese", "Is there a pizza with cheese in the picture?"),
        ("a beach, no people", "Are there people in the picture?"),
        ("a car that is not red", "Is there a red car in the picture?"),
        ("a man not wearing a hat", "Is there a man wearing a hat in the picture?"),
    ],
)
def test_what_the_prompt_denies_is_asked_for_and_answered_no(prompt, question):
    made = make_questions(prompt)
    assert [q.text for q in made if not q.is_yes] == [question]
    assert all(q.is_yes for q in made if q.text != question)


def test_a_right_no_counts_as_a_right_answer():
    asked = [Question("a pizza?"), Question("a pizza with cheese?", "", (0,), is_yes=False)]
    assert share_of_yes(asked, [0.9, 0.1]) == pytest.approx(0.9)
    assert share_of_yes(asked, [0.9, 0.8]) == pytest.approx((0.9 + 0.2) / 2)
    assert share_of_yes(asked, [0.4, 0.1]) == pytest.approx(0.4 / 2)


def test_a_text_is_asked_for_with_what_bears_it():
    assert [q.text for q in make_questions("a sign that says 'stop'") if q.kind == "text"] == [
        "Can you see a sign with the text “stop” in the picture?"
    ]


def test_a_question_counts_only_where_its_parents_were_answered_yes():
    questions = [Question("ring?"), Question("red?", "", (0,)), Question("two?", "", (1,)), Question("square?")]
    assert share_of_yes(questions, [0.9, 0.8, 0.6, 0.2]) == pytest.approx((0.9 + 0.8 + 0.6 + 0.2) / 4)
    # the second one is a no: the third, which depends on it, is 0 and not 0.6
    assert share_of_yes(questions, [0.9, 0.4, 0.6, 0.2]) == pytest.approx((0.9 + 0.4 + 0.2) / 4)
    # and it is through a chain
    assert share_of_yes(questions, [0.4, 0.8, 0.6, 0.2]) == pytest.approx((0.4 + 0.2) / 4)
    assert share_of_yes([], []) == 0
