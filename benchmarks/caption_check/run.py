"""Does the caption check tell a true prompt from one with one fact wrong? Tiny world; the oracle reads the pictures.

python benchmarks/caption_check/run.py
python benchmarks/caption_check/run.py --contrastive residual post_norm attention_bias

Each picture has its true prompt and, for each kind of fact that the prompt has, one prompt with that fact wrong. AUC:
how often a true prompt scores above a wrong one, ties half. Shuffled: the same prompts against another picture, where
neither is true. Rows of results.csv of the same captioner and attention are replaced.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine import CaptionCheck, ContrastiveAttentionConfig  # noqa: E402
from attention_refine.captioner import load_captioner  # noqa: E402
from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from reward.correlations import bootstrap_draws, interval  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.oracle import facts_that_hold, read_scene  # noqa: E402
from tinyworld.scenes import COLOURS, RELATIONS, SHAPES, Kind, Prompt, sample_picture, sample_prompt  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("captioner", "attention", "scenes", "pictures", "measure", "prompts", "wrong", "pairs", "auc", "low", "high")
MEASURES = ("prompt_yes", "questions_yes", "caption_coverage")
KINDS = ("colour", "shape", "number", "relation")


@dataclass(frozen=True)
class Scene:
    """A picture, what it shows, and prompts that are wrong in one fact, by the kind of that fact."""

    picture: np.ndarray
    prompt: Prompt
    wrong: dict[str, Prompt]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="captioner's folder; left out: the shipped one")
    parser.add_argument("--name", default="tinyworld", help="of the captioner, in the table")
    parser.add_argument("--pictures", type=int, default=500, help="of each split")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--contrastive", nargs="+", default=["off"], help="modes of contrastive attention, or off")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_captioner(arguments.model or str(weights_path("llava")), device="cpu")
    splits = {
        name: sample_scenes(np.random.default_rng((arguments.seed, held_out)), arguments.pictures, held_out)
        for name, held_out in (("seen", False), ("held-out", True))
    }
    for mode in arguments.contrastive:
        config = None
        if mode != "off":
            config = ContrastiveAttentionConfig.for_depth(model.config.text_config.num_hidden_layers, mode=mode)
        check = CaptionCheck(model, processor, batch_size=64, max_new_tokens=24, contrastive=config)
        label = {"captioner": arguments.name, "attention": mode}
        start, rows = time.perf_counter(), []
        for split, scenes in splits.items():
            common = label | {"scenes": split, "pictures": len(scenes)}
            rows += [common | row for row in measure(check, scenes, arguments.seed)]
        kept = [row for row in read_rows(RESULTS) if any(row[name] != value for name, value in label.items())]
        write_rows(RESULTS, COLUMNS, [*kept, *rows])
        for row in rows:
            print(*(f"{row[c]:.3f}" if isinstance(row[c], float) else row[c] for c in COLUMNS), sep="  ")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)


def sample_scenes(rng: np.random.Generator, count: int, held_out: bool) -> list[Scene]:
    """Pictures of which, by the oracle, the prompt holds and each wrong one does not."""
    scenes = []
    while len(scenes) < count:
        prompt = sample_prompt(rng, held_out)
        picture = sample_picture(prompt, rng)
        objects = read_scene(picture)
        if not all(facts_that_hold(objects, prompt)):
            continue
        wrong = {kind: other for kind in KINDS if (other := changed(prompt, kind, rng)) is not None}
        for kind, other in wrong.items():
            if all(facts_that_hold(objects, other)):
                raise RuntimeError(f"Expected {other.text!r} to be wrong ({kind}) of a picture of {prompt.text!r}.")
        scenes.append(Scene(picture, prompt, wrong))
    return scenes


def changed(prompt: Prompt, kind: str, rng: np.random.Generator) -> Prompt | None:
    """The prompt with one fact of a kind wrong; None where it has no such fact."""
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
    """The rows of one split: every measure, kind of wrong fact, own and shuffled pictures."""
    rng = np.random.default_rng(seed)
    partners = derangement([scene.prompt.text for scene in scenes], rng)
    drawn = [list(scene.wrong)[rng.integers(len(scene.wrong))] for scene in scenes]
    for name, order in (("own", range(len(scenes))), ("shuffled", partners)):
        true = score(check, [(scenes[j].picture, scenes[i].prompt.text) for i, j in enumerate(order)])
        asked = [(i, kind) for i, scene in enumerate(scenes) for kind in scene.wrong]
        found = score(check, [(scenes[order[i]].picture, scenes[i].wrong[kind].text) for i, kind in asked])
        for measure_name in MEASURES:
            for kind in ("any", *KINDS):
                rows = [
                    (true[i][measure_name], values[measure_name], f"scene {i}")
                    for (i, own), values in zip(asked, found, strict=True)
                    if own == (drawn[i] if kind == "any" else kind)
                ]
                if rows:
                    yield {"measure": measure_name, "prompts": name, "wrong": kind} | auc_row(rows)


def score(check: CaptionCheck, pairs: Sequence[tuple[np.ndarray, str]]) -> list[dict[str, float]]:
    """The three measures of pictures and prompts."""
    found = []
    for start in range(0, len(pairs), 256):
        part = pairs[start : start + 256]
        prompts = [prompt for _, prompt in part]
        checks = check.check(np.stack([picture for picture, _ in part]), prompts, controls=[None] * len(part))
        found += [{name: getattr(each.own, name) for name in MEASURES} for each in checks]
    return found


def derangement(prompts: Sequence[str], rng: np.random.Generator) -> list[int]:
    """For each prompt the place of a picture drawn for another one."""
    while True:
        order = rng.permutation(len(prompts)).tolist()
        for i in range(len(order)):  # a few clashes are left by chance: exchange them
            if prompts[order[i]] == prompts[i]:
                j = int(rng.integers(len(order)))
                order[i], order[j] = order[j], order[i]
        if all(prompts[j] != prompts[i] for i, j in enumerate(order)):
            return order


def auc_row(rows: Sequence[tuple[float, float, str]]) -> dict:
    """AUC of true over wrong, with its 95 % interval by bootstrap over pictures."""
    true, wrong = (np.array([row[place] for row in rows]) for place in (0, 1))
    low, high = interval(bootstrap_draws(auc, [row[2] for row in rows], true, wrong))
    return {"pairs": len(rows), "auc": auc(true, wrong), "low": low, "high": high}


def auc(true: np.ndarray, wrong: np.ndarray) -> float:
    """Share of pairs in which the true one scores higher, ties half (Mann-Whitney)."""
    ranks = rankdata(np.concatenate([true, wrong]))[: len(true)]
    return float((ranks.sum() - len(true) * (len(true) + 1) / 2) / (len(true) * len(wrong)))


if __name__ == "__main__":
    main()
