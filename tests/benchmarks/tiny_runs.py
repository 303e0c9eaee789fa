"""Every benchmark's command at a size that takes seconds: what tests/benchmarks/test_commands.py and docs-check run.

A benchmark writes beside itself and into benchmarks/README.md. So it runs in a scratch copy of the repository, in which
benchmarks/ and docs/ are copies and the other folders are links.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("benchmarks", "docs")

# A training run of seconds, DDPO's and the direct one's.
_SHORT = ("--num_epochs", "1", "--sample_batch_size", "8", "--sample_num_batches_per_epoch", "1")
_DDPO = (*_SHORT, "--train_batch_size", "8")
_PANEL = ("--eval_freq", "1", "--eval_freq_num_prompts", "2", "--eval_freq_group_size", "2")
_ENCODER = "runs/encoder/open_clip_model.safetensors"
_AGIQA = ("--encoder", "runs/encoder", "--data", "runs/AGIQA-3K", "--work", "runs/agiqa3k")


@dataclass(frozen=True)
class TinyRun:
    """One command.

    Args:
        file: the script, as a path from the root.
        words: its command line.
        writes: files that it leaves, newer than it found them.
        without: files that are removed before, so that nothing counts as done already.
        environment: variables that it needs.
        needs: a file that an earlier command writes.
    """

    file: str
    words: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    needs: str = ""

    def __str__(self) -> str:
        return self.file.removeprefix("benchmarks/").removesuffix(".py")


def _run(name: str, words: str = "", writes: str = "", *more: str, without: str = "", **environment: str) -> TinyRun:
    return TinyRun(
        f"benchmarks/{name}.py", (*words.split(), *more), tuple(f"benchmarks/{file}" for file in writes.split()),
        tuple(f"benchmarks/{file}" for file in without.split()), tuple(environment.items()),
    )  # fmt: skip


# In this order: later ones read what earlier ones leave.
RUNS = (
    _run("demo_gain/run", "--name tiny --seeds 7 --", "demo_gain/results.csv", *_DDPO, "--eval_num_prompts", "4",
         "--rewards", "benchmarks.demo_gain.shuffled:shuffled_reward"),
    _run("demo_gain/gradient_signal", "--num-steps 3 --guidance 1.0 --pictures 32 --batch 16",
         "demo_gain/gradient_signal.csv"),
    _run("flow_tinyworld/run", "--rule nft --name tiny --seeds 7 --", "flow_tinyworld/results.csv", *_DDPO,
         "--eval_num_prompts", "4"),
    _run("hacking_alarm/run", "--name redness --seeds 0 --", "hacking_alarm/results.csv", *_DDPO, *_PANEL),
    _run("long_prompts/run", "--pairs 6", "long_prompts/results.csv"),
    _run("prompt_reading/run", "tests/data/propositions.csv", "prompt_reading/results.csv"),
    _run("explain_phrases/run", "--seeds 9 --pairs 6", "explain_phrases/results.csv"),
    _run("tinyworld_evaluator/run", "--seeds 1 --train 100 --test 60",
         "tinyworld_evaluator/results.csv tinyworld_evaluator/cone_widths.csv"),
    _run("tinyworld_evaluator/tables", "--write", "README.md"),
    _run("scoring_folder/run", "--pictures 4 --repeats 1 --output runs/scoring_folder.csv"),
    _run("scoring/run", "--backbones tiny --sides HyperAlignReward open_clip --batches 1 --modes no_grad --inputs "
         "tensors --prompts repeated --repeats 1", "scoring/results.csv", without="scoring/results.csv"),
    _run("scoring/one_by_one", "--blocks 2 --pairs 2", "scoring/one_by_one.csv README.md"),
    _run("scoring/limits", "--backbones tiny --batches 1 --repeats 1", "scoring/limits.csv README.md"),
    _run("attention_probe/curves", "--questions 16 --output runs/probe"),
    _run("attention_probe/modes", "--questions 8 --layers preset --pictures clean", "attention_probe/modes.csv"),
    _run("attention_probe/grounding", "--questions 6", "attention_probe/grounding.csv attention_probe/grounding.png"),
    _run("attention_probe/tables"),
    _run("serving/load", "--pictures 2 --requests 20 --clients 4 --scenes 32 --seconds 0.3", "serving/load.csv"),
    _run("serving/fuzz", "--count 40", "serving/fuzz.csv"),
    _run("serving/jpeg", "--scenes 16", "serving/jpeg.csv"),
    _run("tiny_llava/run", "--count 8 --generated 8", "tiny_llava/results.csv"),
    _run("attention_refine/overhead", "--repeats 1 --tokens 2 --ways residual", "attention_refine/overhead.csv"),
    _run("caption_check/run", "--pictures 8 --name tiny", "caption_check/results.csv"),
    _run("caption_check/run", "--pictures 8 --name tiny --contrastive residual --contrastive post_norm",
         "caption_check/results.csv"),
    _run("caption_check/run", "--pictures 8 --model perfect", "caption_check/results.csv"),
    _run("caption_check/alarm", "--seeds 7 --looks 1 --name tiny --", "caption_check/alarm.csv", *_DDPO, *_PANEL),
    _run("faults/run", "--table", "README.md"),
    _run("ddpo_vs_trl/tables", "--write", "README.md"),
    _run("direct/run", "--name tiny --methods draft-2 --seeds 7 --prompts 4 --save-freq 1 --", "direct/curves.csv",
         *_SHORT),
    _run("direct/guards", "--seeds 7 --prompts 4 --", "direct/guards.csv", *_SHORT, "--save_freq", "1", *_PANEL),
    _run("direct/chart", "", ""),
    _run("direct/tables", "--write", "README.md"),
    _run("direct/memory", "--write --steps 2 --depths 1 --pictures 2", "direct/memory.csv README.md",
         without="direct/memory.csv", MALLOC_MMAP_THRESHOLD_="131072"),
    _run("direct/epoch_time", "--repeats 1 --", "direct/epoch_time.csv", "--sample_num_batches_per_epoch", "1"),
    _run("direct_vs_trl/tables", "--write", "README.md"),
    _run("forward/run", "--rules nft --seeds 7 --prompts 4 --", "forward/curves.csv", *_DDPO, "--save_freq", "1"),
    _run("forward/correlation", "--prompts 2", "forward/correlation.csv"),
    _run("forward/gradient_signal", "--num-steps 2 --pictures 256", "forward/gradient_signal.csv"),
    _run("forward/imitation", "--seeds 7 --prompts 4 --train-prompts 4 --steps 2", "forward/imitation.csv"),
    _run("forward/chart"),
    _run("forward/tables", "--write", "README.md"),
    _run("scaling/ddpo", "--cases 1 --repeats 1", "scaling/ddpo.csv"),
    _run("scaling/growth", "--most 1000 --repeats 1", "scaling/growth.csv"),
    _run("scaling/scoring", "--most-rows 100 --repeats 1", "scaling/scoring.csv"),
    TinyRun("benchmarks/scaling/tables.py", ("--write",), ("docs/scaling.md",)),
    TinyRun("benchmarks/agiqa3k/build_encoder.py",
            ("--towers", "runs/towers", "--pictures", "runs/AGIQA-3K/images", "--output", "runs/encoder"),
            (_ENCODER,)),
    TinyRun("benchmarks/agiqa3k/run.py", (*_AGIQA, "--seeds", "0"), ("benchmarks/agiqa3k/rows_results.csv",),
            needs=_ENCODER),
    TinyRun("benchmarks/agiqa3k/run.py", (*_AGIQA, "--part", "sweeps", "--seeds", "0"),
            ("benchmarks/agiqa3k/sweeps_summary.json",), needs=_ENCODER),
    TinyRun("benchmarks/agiqa3k/training_time.py", (*_AGIQA, "--repeats", "1"),
            ("benchmarks/agiqa3k/training_time.csv",), needs=_ENCODER),
    TinyRun("benchmarks/agiqa3k/tables.py", ("--write",), ("benchmarks/README.md",)),
)  # fmt: skip

# Not run: parsed only, and their parts tested elsewhere.
NOT_RUN = {
    "benchmarks/ddpo_vs_trl/speed.py": "needs TRL 0.23.1",
    "benchmarks/ddpo_vs_trl/time_to_reward.py": "needs TRL 0.23.1",
    "benchmarks/direct_vs_trl/speed.py": "needs TRL 0.23.1",
    "benchmarks/direct_vs_trl/same_work.py": "needs TRL 0.23.1",
    "benchmarks/precision/run.py": "its library starts programs as it is imported, which cannot be stood in for here",
    "benchmarks/fuzz/run.py": "needs atheris; tests/hostile runs its targets",
    "benchmarks/same_numbers/run.py": "compares two revisions in forty runs",
}


def make_scratch(folder: Path) -> Path:
    """A copy of the repository to run benchmarks in, with made-up towers and pictures below runs/ for AGIQA-3K's."""
    from tests.benchmarks.made_up_agiqa import write_pictures, write_towers

    folder.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.name != "runs" and not path.name.startswith("."):
            os.symlink(path, folder / path.name)
    write_towers(folder / "runs" / "towers")
    write_pictures(folder / "runs" / "AGIQA-3K")
    return folder
