"""Do the flow-matching recipes raise the oracle's held-out score? One row of results.csv per run, and README's table.

python benchmarks/flow_tinyworld/run.py --rule nft --seeds 0 1 2 3 4
python benchmarks/flow_tinyworld/run.py --rule ddpo --seeds 0 1 2 3 4

The recipes are tinyworld/flow_nft.yaml and tinyworld/flow_ddpo.yaml. Flags after ``--`` are passed to the trainer; give
such runs a name of their own. A run is skipped if its row exists.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(ROOT))

from benchmarks.demo_gain.run import collect  # noqa: E402
from benchmarks.results_file import put_table, read_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
SIDES = ("base", "lora")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", required=True, choices=("nft", "ddpo"), help="the recipe")
    parser.add_argument("--name", help="name of the runs in the table; default: the rule")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="keep the run folders here; default: they are deleted")
    parser.add_argument("overrides", nargs="*", help="after --: flags of the trainer")
    arguments = parser.parse_args()
    collect(
        RESULTS, arguments.name or arguments.rule, arguments.seeds, arguments.overrides, arguments.keep,
        trainer=f"rl.{arguments.rule}_train", flags=("--config", f"tinyworld/flow_{arguments.rule}.yaml"),
    )  # fmt: skip
    put_table("flow_tinyworld/results.csv", table(read_rows(RESULTS)))


def table(rows: list[dict[str, str]]) -> str:
    """The table of README.md, by name and seed."""
    head = ("run", "seed", "epochs", "minutes", "oracle, base", "oracle, LoRA", "gain, 95 % interval", "reward, base")
    head += ("reward, LoRA",)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in sorted(rows, key=lambda row: (row["name"], int(row["seed"]))):
        gain, low, high = (float(row[f"oracle_gain{end}"]) for end in ("", "_low", "_high"))
        best = [f"{float(row[f'oracle_{side}']):.3f} (guidance {float(row[f'guidance_{side}']):g})" for side in SIDES]
        rewards = [f"{float(row[f'reward_{side}']):.3f}" for side in SIDES]
        cells = [row["name"], row["seed"], row["epochs"], f"{float(row['seconds']) / 60:.1f}", *best]
        cells += [f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]", *rewards]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
