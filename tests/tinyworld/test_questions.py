"""Every answer is checked from the scene by rules written a second time, and in another way, here."""

import re
from collections import Counter

import numpy as np
import pytest

from tinyworld.models.llava_batches import sample_scenes
from tinyworld.oracle import facts_that_hold, read_scene
from tinyworld.questions import OPEN_KINDS, YES_NO_KINDS, ask, ask_all, caption
from tinyworld.scenes import RELATIONS, Kind, SceneObject, parse_prompt

RELATION = "|".join(RELATIONS)
PROMPT = rf"(?:a|two) \w+ (?:ring|square|triangle)\b(?: (?:and|{RELATION}) a \w+ \w+|s)?"


def scene(*items):
    return [SceneObject(Kind(*name.split()), x, y, 0.13) for name, x, y in items]


@pytest.fixture(scope="module")
def asked():
    """Thousands of questions: (objects, question)."""
    rng = np.random.default_rng(0)
    scenes = [objects for part in range(10) for objects in sample_scenes(rng, 40, held_out=part % 2 > 0).objects]
    kinds = (*YES_NO_KINDS, *OPEN_KINDS)
    drawn = [(objects, ask(kind, objects, rng, False)) for objects in scenes for kind in kinds for _ in range(3)]
    return [(objects, question) for objects, question in drawn if question]


def naming(objects, noun):
    """The objects that a noun such as "red ring", "rings" or "red object" is true of."""
    words = noun.removesuffix("s").split()
    return [o for o in objects if all(word in ("object", o.kind.colour, o.kind.shape) for word in words)]


def stands(one, two, relation):
    dx, dy = one.x - two.x, one.y - two.y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return abs(along) > abs(across) and (along < 0) == (relation in ("left of", "above"))


def truth(objects, text):
    """The answer to a question, or None for a form that is not known here."""
    text = text.removesuffix("?").removesuffix(" in the picture")
    yes_no = {True: "yes", False: "no"}
    if found := re.fullmatch("Does the picture show (.+)", text):
        return yes_no[all(facts_that_hold(objects, parse_prompt(found[1])))]
    if found := re.fullmatch(f"Is there a (.+) ({RELATION}) a (.+)", text):
        ones, twos = naming(objects, found[1]), naming(objects, found[3])
        return yes_no[any(stands(one, two, found[2]) for one in ones for two in twos)]
    if found := re.fullmatch(f"Is the (.+) ({RELATION}) the (.+)", text):
        (one,), (two,) = naming(objects, found[1]), naming(objects, found[3])
        return yes_no[stands(one, two, found[2])]
    if found := re.fullmatch("(?:Is|Are) there (?:exactly )?(one|two) (.+)", text):
        return yes_no[len(naming(objects, found[2])) == {"one": 1, "two": 2}[found[1]]]
    if found := re.fullmatch("Is there a (.+)", text):
        return yes_no[bool(naming(objects, found[1]))]
    if found := re.fullmatch("How many (.+) are there", text):
        return ("zero", "one", "two", "three")[len(naming(objects, found[1]))]
    if found := re.fullmatch("What colour (?:is|are) the (.+)", text):
        (colour,) = {o.kind.colour for o in naming(objects, found[1])}
        return colour
    if found := re.fullmatch("What shape is the (.+)", text):
        (item,) = naming(objects, found[1])
        return item.kind.shape
    if found := re.fullmatch(f"What is ({RELATION}) the (.+)", text):
        (two,) = naming(objects, found[2])
        (one,) = (o for o in objects if o is not two and stands(o, two, found[1]))
        return f"a {one.kind}"
    return None


def test_the_answers_are_true(asked):
    assert len(asked) > 3000
    assert [(q.text, q.answer) for objects, q in asked if truth(objects, q.text) != q.answer] == []
    assert {question.kind for _, question in asked} == {*YES_NO_KINDS, *OPEN_KINDS}


def test_yes_and_no_are_balanced_and_the_words_alone_do_not_tell(asked):
    for kind in YES_NO_KINDS:
        answers = [question.answer for _, question in asked if question.kind == kind]
        assert 0.42 < answers.count("yes") / len(answers) < 0.58, kind
    relations = Counter(
        (re.search(RELATION, q.text)[0], q.answer) for _, q in asked if q.kind == "relation"
    )
    for relation in RELATIONS:
        yes, no = relations[relation, "yes"], relations[relation, "no"]
        assert 0.38 < yes / (yes + no) < 0.62, relation


def test_training_names_no_held_out_combination():
    rng = np.random.default_rng(1)
    plan = ["caption", *YES_NO_KINDS, *OPEN_KINDS]
    found = 0
    for objects in sample_scenes(rng, 300).objects:
        for question in ask_all(plan, objects, rng):
            said = question.answer if question.kind == "caption" else question.text
            for text in re.findall(PROMPT, said):
                found += 1
                assert not parse_prompt(text.replace(" object", " ring")).held_out, question
            if two := re.fullmatch(rf"Is the (\w+ \w+) (?:{RELATION}) the (\w+ \w+)\?", question.text):
                if "object" not in question.text:
                    assert not parse_prompt(f"a {two[1]} and a {two[2]}").held_out
    assert found > 500


def test_a_caption_is_one_prompt_of_which_every_fact_holds():
    rng = np.random.default_rng(2)
    for objects in sample_scenes(rng, 200, held_out=True, free=0).objects:
        text = caption(objects)
        assert all(facts_that_hold(objects, parse_prompt(text)))
        assert caption(objects[::-1]) == text


def test_captions_of_what_the_grammar_cannot_tell():
    assert caption([]) == "nothing"
    ring, square = ("red ring", 0.2, 0.5), ("blue square", 0.8, 0.5)
    assert caption(scene(ring, square)) == "a red ring left of a blue square"
    assert caption(scene(ring, ("red ring", 0.8, 0.5))) == "two red rings"
    assert caption(scene(ring, square, ("red ring", 0.5, 0.9))) is None
    assert caption(scene(("red ring", 0.3, 0.3), ("blue square", 0.7, 0.7))) is None  # on the diagonal


def test_the_pictures_of_the_scenes_show_them():
    scenes = sample_scenes(np.random.default_rng(3), 120)
    right = 0
    for picture, objects in zip(scenes.pictures.permute(0, 2, 3, 1).numpy(), scenes.objects, strict=True):
        right += Counter(o.kind for o in read_scene(picture)) == Counter(o.kind for o in objects)
    assert right >= 117
    assert {len(objects) for objects in scenes.objects} == {0, 1, 2, 3}
