"""Does `explain` find the phrase that is wrong? Tiny world, one wrong fact per pair; the oracle knows which.

python benchmarks/explain_phrases/run.py --seeds 1 2

The method was chosen on seed 1; seed 2 was first run afterwards. Prompts with one phrase are left out, because naming
it is trivial. Rows of results.csv of the same seeds are replaced.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from reward import HyperAlignReward  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.explanation.explain import explain_phrases  # noqa: E402
from reward.explanation.phrase_scores import PhraseScores  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.data import altered  # noqa: E402
from tinyworld.oracle import facts_that_hold, read_scene  # noqa: E402
from tinyworld.scenes import Prompt, sample_picture, sample_prompt  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("seed", "scenes", "question", "method", "wrong", "pairs", "share", "low", "high", "chance")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
    for seed in arguments.seeds:
        rows = [row for held_out in (False, True) for row in measure(reward, seed, arguments.pairs, held_out)]
        kept = [row for row in read_rows(RESULTS) if row["seed"] != str(seed)]
        write_rows(RESULTS, COLUMNS, [*kept, *rows])
        for row in rows:
            print(
                *(f"{row.get(c, ''):.3f}" if isinstance(row.get(c), float) else row.get(c, "") for c in COLUMNS),
                sep="  ",
                flush=True,
            )


def measure(reward: HyperAlignReward, seed: int, count: int, held_out: bool) -> Iterator[dict]:
    """The rows of one seed and one split."""
    common = {"seed": seed, "scenes": "held-out" if held_out else "seen"}
    rng = np.random.default_rng((seed, held_out))
    outcomes = []
    for picture, prompt, wrong_phrase, wrong in wrong_pairs(rng, count, held_out):
        found = explain_phrases(reward, picture, prompt.text)
        texts = [phrase.text for phrase in found.phrases]
        if wrong_phrase not in texts:
            raise RuntimeError(f"Expected {wrong_phrase!r} among the phrases of {prompt.text!r} but got {texts}")
        named = {
            "swaps (explain)": found.worst.text,
            "leaving out": leaving_out(found),
            "phrases alone": phrases_alone(found),
        }
        clear = found.clearly_wrong
        outcomes.append((wrong, 1 / len(texts), clear, {m: text == wrong_phrase for m, text in named.items()}))
    question = common | {"question": "wrong phrase named"}
    for kind in ("any", "object", "number", "relation"):
        chosen = [o for o in outcomes if kind in ("any", o[0])]
        if not chosen:
            continue
        chance = float(np.mean([o[1] for o in chosen]))
        for method in ("swaps (explain)", "leaving out", "phrases alone"):
            yield question | {"method": method, "wrong": kind, "chance": chance} | share([o[3][method] for o in chosen])
        clear = common | {"question": "said to be clearly wrong", "method": "swaps (explain)", "wrong": kind}
        yield clear | share([o[2] for o in chosen])
    right = [explain_phrases(reward, picture, prompt.text) for picture, prompt in right_pairs(rng, count, held_out)]
    control = common | {"wrong": "nothing", "method": "swaps (explain)"}
    yield control | {"question": "said to be clearly wrong"} | share([found.clearly_wrong for found in right])
    relations = [p.margin > 0 for found in right for p in found.phrases if p.kind == "relation"]
    yield control | {"question": "true relation scores highest of four", "chance": 0.25} | share(relations)
    named = [f.worst.kind == "relation" for f in right if any(p.kind == "relation" for p in f.phrases)]
    yield control | {"question": "true relation is the weakest phrase", "chance": 1 / 3} | share(named)


def wrong_pairs(rng: np.random.Generator, count: int, held_out: bool) -> Iterator[tuple]:
    """Draw (picture (3, H, W), prompt, the phrase that is wrong by the oracle, what is wrong with it)."""
    made = 0
    while made < count:
        shown = sample_prompt(rng, held_out)
        asked = altered(shown, rng, seen_only=not held_out)
        picture = sample_picture(shown, rng)
        objects = read_scene(picture)
        broken = broken_phrase(asked, facts_that_hold(objects, asked))
        if broken is None or not all(facts_that_hold(objects, shown)):
            continue
        made += 1
        yield torch.from_numpy(picture).permute(2, 0, 1), asked, *broken


def broken_phrase(asked: Prompt, holds: tuple[bool, ...]) -> tuple[str, str] | None:
    """The wrong phrase and what is wrong with it; None unless exactly one of several phrases is wrong.

    If an object is missing, no relation holds either. The object then counts as the wrong phrase.
    """
    if asked.second is None:
        if asked.count == 1 or all(holds):
            return None
        return ("two", "number") if holds[0] else (f"{asked.first}s", "object")
    missing = [kind for kind, held in zip((asked.first, asked.second), holds[:2], strict=True) if not held]
    if len(missing) == 1:
        return f"a {missing[0]}", "object"
    return (asked.relation, "relation") if not missing and not all(holds) else None


def right_pairs(rng: np.random.Generator, count: int, held_out: bool) -> Iterator[tuple[torch.Tensor, Prompt]]:
    """Draw pairs (picture, prompt) for which every fact holds, with the same kind of prompts."""
    made = 0
    while made < count:
        prompt = sample_prompt(rng, held_out)
        picture = sample_picture(prompt, rng)
        if (prompt.second is None and prompt.count == 1) or not all(facts_that_hold(read_scene(picture), prompt)):
            continue
        made += 1
        yield torch.from_numpy(picture).permute(2, 0, 1), prompt


def leaving_out(found: PhraseScores) -> str:
    """The phrase whose removal gives the highest score. The object of "two rings" cannot be removed."""
    whole = found.prompt_score
    return max(found.phrases, key=lambda p: whole if p.without is None else p.without).text


def phrases_alone(found: PhraseScores) -> str:
    """The phrase with the lowest score as a prompt. A relation or number gets the score of the full prompt."""
    whole = found.prompt_score
    return min(found.phrases, key=lambda p: whole if p.alone is None else p.alone).text


def share(hits: list[bool]) -> dict:
    """Share of hits with its 95 % Wilson interval."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {"pairs": len(hits), "share": sum(hits) / len(hits), "low": interval.low, "high": interval.high}


if __name__ == "__main__":
    main()
