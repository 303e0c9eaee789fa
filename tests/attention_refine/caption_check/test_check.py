"""With a random captioner where arithmetic is in question, with a scripted one where meaning is."""

import pytest
import torch
from PIL import Image

from attention_refine import CaptionCheck
from attention_refine.caption_check.check import other_prompts, to_pictures
from attention_refine.caption_check.questions import Question
from attention_refine.caption_check.rewards import caption_coverage, caption_questions, caption_yes
from attention_refine.contrastive.config import ContrastiveAttentionConfig
from rl.rewards.loading import load_rewards
from tests.attention_refine.tiny_captioner import save_tiny_captioner, tiny_captioner

PROMPTS = ["a red ring", "two red rings", "a red ring left of a blue square"]


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def check():
    return CaptionCheck(*tiny_captioner(), batch_size=4, max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_captioner(tmp_path_factory.mktemp("captioner"))


class Scripted:
    """Sees a red ring left of a blue square in every picture; remembers what it was asked."""

    facts = ("ring", "red ring", "square", "blue square", "red ring left of a blue square")
    forms = ("Is there a {} in the picture?", "Does the picture show a {}?")

    def __init__(self):
        self.asked, self.told = [], []
        self.true = {form.format(fact) for fact in self.facts for form in self.forms}

    def yes_probability(self, images, questions):
        self.asked += questions
        return torch.tensor([0.875 if question in self.true else 0.25 for question in questions])

    def captions(self, images, instruction):
        self.told.append(instruction)
        self.captioned = len(images)
        return ["a red ring left of a blue square"] * len(images)


@pytest.fixture
def scripted(check):
    own = CaptionCheck(*tiny_captioner())
    own.captioner = Scripted()
    return own


def test_each_number_is_what_the_captioner_says(check, images):
    for place, found in enumerate(check.check(images, PROMPTS)):
        picture, own = to_pictures(images)[place], found.own
        assert own.prompt == PROMPTS[place]
        (whole,) = check.captioner.yes_probability([picture], [f"Does the picture show {PROMPTS[place]}?"]).tolist()
        assert own.prompt_yes == pytest.approx(whole, abs=1e-5)
        texts = [answer.question for answer in own.answers]
        answers = check.captioner.yes_probability([picture] * len(texts), texts).tolist()
        assert [answer.yes for answer in own.answers] == pytest.approx(answers, abs=1e-5)
        assert found.caption == check.captioner.captions([picture], "Describe the picture.")[0]


def test_a_true_prompt_a_false_one_and_the_control(scripted, images):
    prompts = ["a red ring left of a blue square", "a green ring left of a blue square", "a red ring"]
    true, false, part = scripted.check(images, prompts)
    assert true.own.prompt_yes == true.own.questions_yes == 0.875 and true.own.caption_coverage == 1
    # a ring, no green one, a square, a blue one; the relation hangs on the green ring
    assert [answer.yes for answer in false.own.answers] == [0.875, 0.25, 0.875, 0.875, 0.25]
    assert false.own.questions_yes == pytest.approx((0.875 * 3 + 0.25) / 5)
    assert [fact.is_covered for fact in false.own.facts] == [True, False, True, True, False]
    assert false.own.caption_coverage == pytest.approx(3 / 5)
    assert part.own.caption_coverage == 1
    for found, prompt in zip((true, false, part), prompts, strict=True):
        assert found.control.prompt in prompts and found.control.prompt != prompt


def test_the_caption_is_written_without_the_prompt(scripted, images):
    scripted.check(images, PROMPTS)
    assert scripted.captioner.told == ["Describe the picture."]


def test_no_question_is_asked_twice_about_a_picture(scripted, images):
    scripted.check(images[:1], ["8k"], controls=[None])  # names nothing: its only question is the whole prompt
    assert scripted.captioner.asked == ["Does the picture show 8k?"]


def test_a_picture_with_several_prompts_is_captioned_once(scripted, images):
    one, other = to_pictures(images[:2])
    found = scripted.check([one, other, one], ["a ring", "a ring", "a green ring"], controls=[None] * 3)
    assert [each.own.caption_coverage for each in found] == [1, 1, 0.5]
    assert scripted.captioner.captioned == 2
    # the first picture: two whole prompts, a ring, a green ring; the other one: a whole prompt, a ring
    assert len(scripted.captioner.asked) == 6


def test_own_questions(scripted, images):
    asked = (Question("Is it round?", "shape"), Question("Is there a ring in the picture?", "", (0,)))
    (found,) = scripted.check(images[:1], ["a red ring"], {"a red ring": asked})
    assert [(a.question, a.kind, a.yes) for a in found.own.answers] == [
        ("Is it round?", "shape", 0.25), ("Is there a ring in the picture?", "", 0.875),
    ]  # fmt: skip
    assert found.own.questions_yes == 0.125 and found.control is None


def test_other_prompts_are_never_ones_own():
    prompts = ["a", "a", "a", "b", "c"]
    for seed in range(20):
        others = other_prompts(prompts, seed)
        assert all(other in prompts and other != own for own, other in zip(prompts, others, strict=True))
    assert len({tuple(other_prompts(prompts, seed)) for seed in range(20)}) > 5
    assert other_prompts(prompts) == other_prompts(prompts)
    assert other_prompts(["a", "a"]) == [None, None]


def test_rewards_for_the_panel(check, images, folder):
    names = ("caption_yes", "caption_questions", "caption_coverage")
    specs = [f"attention_refine.caption_check.rewards:{name}@{folder}=2" for name in names]
    rewards = load_rewards(specs, device="cpu", field="eval_rewards")
    assert rewards.names == list(names)
    found = check.check(images, PROMPTS)
    parts = rewards(images, PROMPTS)[1]
    for name, field in zip(rewards.names, ("prompt_yes", "questions_yes", "caption_coverage"), strict=True):
        expected = [getattr(each.own, field) for each in found]
        assert parts[name].tolist() == pytest.approx(expected, abs=1e-5), name


def test_a_panels_metrics_share_one_model(folder, monkeypatch):
    loads, load = [], CaptionCheck.from_pretrained
    monkeypatch.setattr(CaptionCheck, "from_pretrained", lambda *given: loads.append(given) or load(*given))
    source = f"{folder}/"  # not yet loaded under this name
    for factory in (caption_yes, caption_questions, caption_coverage):
        factory(source, device="cpu")
    assert loads == [(source, "cpu")]


def test_contrastive_attention_is_off_by_default_and_there_only_while_generating(images):
    model, processor = tiny_captioner()
    config = ContrastiveAttentionConfig(
        post_layer=1, candidate_layers=(0,), review_layer=2, rho=0.8, lam=0.0, mode="attention_bias"
    )
    bare = CaptionCheck(model, processor)
    before = bare.prompt_yes(images, PROMPTS)
    masked = CaptionCheck(model, processor, contrastive=config).prompt_yes(images, PROMPTS)
    assert not torch.allclose(before, masked, atol=1e-4)
    assert torch.equal(bare.prompt_yes(images, PROMPTS), before)


def test_pictures_of_any_form(images):
    (picture,) = to_pictures(images[:1])
    assert picture.size == (16, 16) and picture.mode == "RGB"
    grey = Image.new("L", (9, 5), 7)
    assert [p.mode for p in to_pictures([grey, picture])] == ["RGB", "RGB"]
    assert to_pictures([picture])[0] is picture


@pytest.mark.parametrize(
    ("prompts", "message"),
    [(["a ring"], "one prompt a picture, got 1 prompts for 3"), (["a ring", " ", "b"], "got ' ' for picture 1")],
)
def test_what_is_wrong_is_said(check, images, prompts, message):
    for measure in (check.check, check.prompt_yes, check.questions_yes, check.caption_coverage):
        with pytest.raises(ValueError, match=message):
            measure(images, prompts)


def test_a_question_without_a_place_is_refused_at_once():
    with pytest.raises(ValueError, match="in the place of what is asked for"):
        CaptionCheck(*tiny_captioner(), question="Is it true?")
