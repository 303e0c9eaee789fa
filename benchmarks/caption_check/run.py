"""Can the caption check tell a true prompt from one with one wrong fact? Tiny world; the oracle gives the truth.

python benchmarks/caption_check/run.py
python benchmarks/caption_check/run.py --contrastive residual post_norm attention_bias

Half of the pictures show seen combinations, half held-out ones. Each has a true prompt and one with one wrong fact.
AUC: how often a true prompt scores higher than a wrong one; ties count half. Shuffled: the same two prompts with
another picture, for which both are wrong. Rows of results.csv of the same captioner and attention are replaced.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine import CaptionCheck, ContrastiveAttentionConfig  # noqa: E402
from attention_refine.caption_check.check import PromptCheck, to_pictures  # noqa: E402
from attention_refine.caption_check.facts import coverage  # noqa: E402
from attention_refine.caption_check.questions import Question, share_of_yes  # noqa: E402
from attention_refine.vlm.loading import load_model  # noqa: E402
from benchmarks.caption_check.perfect import perfect_check  # noqa: E402
from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.statistics.correlations import bootstrap_draws, interval  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.oracle import facts_that_hold, read_scene  # noqa: E402
from tinyworld.scenes import COLOURS, RELATIONS, SHAPES, Kind, Prompt, sample_picture, sample_prompt  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("captioner", "attention", "scenes", "measure", "prompts", "wrong", "pairs", "auc", "low", "high")
MEASURES = ("prompt_yes", "questions_yes", "caption_coverage")
# weight of each kind of fact when the wrong fact is drawn; numbers and relations are rarer in prompts
KINDS = {"colour": 1.0, "shape": 1.0, "number": 3.0, "relation": 1.5}


@dataclass(frozen=True)
class Scene:
    """A picture, its true prompt, a prompt with one wrong fact, and the kind of that fact."""

    picture: np.ndarray
    true: str
    wrong: str
    kind: str
    split: str


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help='captioner\'s folder, or "perfect"; default: the shipped one')
    parser.add_argument("--name", default="tinyworld", help="name of the captioner in the table")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--contrastive", nargs="+", default=["off"], help='modes of contrastive attention, or "off"')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    half = arguments.pictures // 2
    scenes = sample_scenes(np.random.default_rng((arguments.seed, 0)), half, "seen")
    scenes += sample_scenes(np.random.default_rng((arguments.seed, 1)), arguments.pictures - half, "held-out")
    if arguments.model == "perfect":
        report(perfect_check(exactly_one=True), scenes, arguments.seed, {"captioner": "perfect", "attention": "off"})
        return
    model, processor = load_model(arguments.model or str(weights_path("llava")), device="cpu")
    for mode in arguments.contrastive:
        config = None
        if mode != "off":
            config = ContrastiveAttentionConfig.for_depth(model.config.text_config.num_hidden_layers, mode=mode)
        options = {"batch_size": 64, "max_new_tokens": 24, "exactly_one": True, "contrastive": config}
        check = CaptionCheck(model, processor, **options)
        report(check, scenes, arguments.seed, {"captioner": arguments.name, "attention": mode})


def report(check: CaptionCheck, scenes: Sequence[Scene], seed: int, label: dict[str, str]) -> None:
    """Measure, print, and replace the rows with the same label in results.csv."""
    start = time.perf_counter()
    rows = [label | row for row in measure(check, scenes, seed)]
    kept = [row for row in read_rows(RESULTS) if any(row[name] != value for name, value in label.items())]
    write_rows(RESULTS, COLUMNS, [*kept, *rows])
    for row in rows:
        print(*(f"{row[c]:.3f}" if isinstance(row[c], float) else row[c] for c in COLUMNS), sep="  ")
    print(f"{time.perf_counter() - start:.0f} s", flush=True)


def sample_scenes(rng: np.random.Generator, count: int, split: str) -> list[Scene]:
    """Draw pictures for which, by the oracle, the true prompt holds and the wrong one does not."""
    scenes = []
    while len(scenes) < count:
        prompt = sample_prompt(rng, held_out=split == "held-out")
        picture = sample_picture(prompt, rng)
        options = {kind: other for kind in KINDS if (other := changed(prompt, kind, rng)) is not None}
        weights = np.array([KINDS[kind] for kind in options])
        kind = list(options)[rng.choice(len(options), p=weights / weights.sum())]
        objects = read_scene(picture)
        if not all(facts_that_hold(objects, prompt)):
            continue
        if all(facts_that_hold(objects, options[kind])):
            raise RuntimeError(f"Expected {options[kind].text!r} to be wrong of a picture of {prompt.text!r}.")
        scenes.append(Scene(picture, prompt.text, options[kind].text, kind, split))
    return scenes


def changed(prompt: Prompt, kind: str, rng: np.random.Generator) -> Prompt | None:
    """The prompt with one wrong fact of the given kind; None if it has no such fact."""
    if kind == "number":
        return Prompt(prompt.first, count=3 - prompt.count) if prompt.second is None else None
    if kind == "relation":
        others = [relation for relation in RELATIONS if relation != prompt.relation]
        return replace(prompt, relation=others[rng.integers(3)]) if prompt.relation else None
    place = "second" if prompt.second and rng.random() < 0.5 else "first"
    old: Kind = getattr(prompt, place)
    names = [name for name in (COLOURS if kind == "colour" else SHAPES) if name != getattr(old, kind)]
    options = [replace(old, **{kind: name}) for name in names]
    options = [option for option in options if option not in (prompt.first, prompt.second)]
    return replace(prompt, **{place: options[rng.integers(len(options))]})


def measure(check: CaptionCheck, scenes: Sequence[Scene], seed: int) -> Iterator[dict]:
    """The rows: every measure, split and kind of wrong fact, for a picture's own prompts and for shuffled ones."""
    pictures = to_pictures([scene.picture for scene in scenes])
    others = derangement([scene.true for scene in scenes], np.random.default_rng(seed))
    found = []
    for start in range(0, len(scenes), 64):
        part = range(start, min(start + 64, len(scenes)))
        prompts = [prompt for i in part for prompt in (scenes[i].true, scenes[i].wrong)]
        # the check captions a picture only once, even if it is given twice
        checks = check.check([pictures[i] for i in part for _ in range(2)], prompts, controls=[None] * len(prompts))
        strange = [prompt for i in part for prompt in (scenes[others[i]].true, scenes[others[i]].wrong)]
        yes = check.prompt_yes([pictures[i] for i in part for _ in range(2)], strange).tolist()
        for i, one, two, *control in zip(part, checks[::2], checks[1::2], strange[::2], strange[1::2], yes[::2],
                                         yes[1::2], strict=True):  # fmt: skip
            own = {name: (getattr(one.own, name), getattr(two.own, name)) for name in MEASURES}
            own["questions_yes, a = at least one"] = (at_least_one(one.own), at_least_one(two.own))
            true, wrong, true_yes, wrong_yes = control
            shuffled = {"prompt_yes": (true_yes, wrong_yes),
                        "caption_coverage": (coverage(true, one.caption), coverage(wrong, one.caption))}  # fmt: skip
            found.append((scenes[i], scenes[others[i]].kind, {"own": own, "shuffled": shuffled}))
    for prompts_of in ("own", "shuffled"):
        for name in found[0][2][prompts_of]:
            for split in ("all", "seen", "held-out"):
                for kind in ("any", *KINDS):
                    rows = [
                        (*values[prompts_of][name], f"scene {i}")
                        for i, (scene, other_kind, values) in enumerate(found)
                        if split in ("all", scene.split)
                        and kind in ("any", scene.kind if prompts_of == "own" else other_kind)
                    ]
                    if len(rows) > 1:
                        row = {"scenes": split, "measure": name, "prompts": prompts_of, "wrong": kind}
                        yield row | auc_row(rows)


def at_least_one(check: PromptCheck) -> float:
    """`questions_yes` without the questions that `exactly_one` adds."""
    answers = [answer for answer in check.answers if "exactly one " not in answer.question]
    # the tiny world's prompts deny nothing: every right answer is yes
    questions = [Question(answer.question, answer.kind, answer.depends_on) for answer in answers]
    return share_of_yes(questions, [answer.yes for answer in answers])


def derangement(prompts: Sequence[str], rng: np.random.Generator) -> list[int]:
    """For each prompt, the index of a picture of another prompt."""
    while True:
        order = rng.permutation(len(prompts)).tolist()
        for i in range(len(order)):  # swap the few that still have a picture of the same prompt
            if prompts[order[i]] == prompts[i]:
                j = int(rng.integers(len(order)))
                order[i], order[j] = order[j], order[i]
        if all(prompts[j] != prompts[i] for i, j in enumerate(order)):
            return order


def auc_row(rows: Sequence[tuple[float, float, str]]) -> dict:
    """AUC of true over wrong prompts with its 95 % bootstrap interval over pictures."""
    true, wrong = (np.array([row[place] for row in rows]) for place in (0, 1))
    low, high = interval(bootstrap_draws(auc, [row[2] for row in rows], true, wrong))
    return {"pairs": len(rows), "auc": auc(true, wrong), "low": low, "high": high}


def auc(true: np.ndarray, wrong: np.ndarray) -> float:
    """Share of pairs (true, wrong) in which the true one scores higher; ties count half (Mann-Whitney)."""
    wrong = np.sort(wrong)
    below, up_to = np.searchsorted(wrong, true, "left"), np.searchsorted(wrong, true, "right")
    return float((below + up_to).mean() / (2 * len(wrong)))


if __name__ == "__main__":
    main()
