"""Print the tables of benchmarks/README.md from this folder's CSVs; `--write` writes them there.

python -m benchmarks.forward.tables [--write]
"""

from pathlib import Path
from statistics import mean

from benchmarks.results_file import print_tables

Rows = list[dict[str, str]]


def rules_table(rows: Rows) -> str:
    """Each run's end: base and LoRA at their own best guidance, costs, gain with its interval."""
    lines = [
        "| setting | rule | seed | pictures scored | UNet evaluations | seconds | base (guidance) | LoRA (guidance) | "
        "gain, 95 % interval | held-out reward |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (setting, rule, seed), points in sorted(runs(rows).items()):
        first, last = points[0], points[-1]
        base, best = (f"{float(row['best_oracle']):.3f} ({float(row['best_guidance']):g})" for row in (first, last))
        gain = f"{float(last['gain']):+.3f} [{float(last['gain_low']):+.3f}, {float(last['gain_high']):+.3f}]"
        costs = (f"{float(last[name]):,.0f}" for name in ("reward_queries", "denoiser_evaluations", "train_seconds"))
        lines.append(
            f"| {setting} | {rule} | {seed} | {' | '.join(costs)} | {base} | {best} | {gain} | "
            f"{float(last['best_reward']):.3f} |"
        )
    return "\n".join(lines)


def imitation_table(rows: Rows) -> str:
    """What the kept pictures score, and what a LoRA that learned them does: means over seeds, lowest and highest."""
    lines = [
        "| kept | seeds | oracle of the first picture | of the kept one | base | LoRA without guidance | LoRA at its "
        "best guidance | gain (lowest to highest) | intervals above 0 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for choose in dict.fromkeys(row["choose"] for row in rows):
        own = [row for row in rows if row["choose"] == choose]
        columns = ("oracle_first", "oracle_kept", "base_oracle", "oracle_without_guidance", "best_oracle")
        gains = [float(row["gain"]) for row in own]
        above = sum(float(row["gain_low"]) > 0 for row in own)
        values = (f"{mean(float(row[name]) for row in own):.3f}" for name in columns)
        lines.append(
            f"| {choose} | {len(own)} | {' | '.join(values)} | {mean(gains):+.3f} ({min(gains):+.3f} to "
            f"{max(gains):+.3f}) | {above} of {len(own)} |"
        )
    return "\n".join(lines)


def signal_table(rows: Rows) -> str:
    """Signal-to-noise ratio of a batch's gradient."""
    lines = ["| steps | guidance, rollout | guidance, training | reward | noise | signal |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    names = ("num_steps", "rollout_guidance", "train_guidance", "reward", "states", "snr_squared_per_128")
    lines += [f"| {' | '.join(row[name] for name in names)} |" for row in rows]
    return "\n".join(lines)


def correlation_table(rows: Rows) -> str:
    """What the reward sees of the oracle, and what the best of eight by it would give."""
    lines = [
        "| steps | guidance | oracle | rank correlation | within a prompt | best of 8 by the reward | by the oracle |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        values = (
            f"{float(row[name]):.3f}"
            for name in ("oracle", "spearman", "spearman_within_a_prompt", "best_of_8_by_reward", "best_of_8_by_oracle")
        )
        lines.append(f"| {row['num_steps']} | {row['guidance']} | {' | '.join(values)} |")
    return "\n".join(lines)


def runs(rows: Rows) -> dict[tuple[str, str, str], Rows]:
    """(setting, rule, seed) -> its points, first to last."""
    found: dict[tuple[str, str, str], Rows] = {}
    for row in rows:
        found.setdefault((row["setting"], row["rule"], row["seed"]), []).append(row)
    return found


if __name__ == "__main__":
    tables = {
        "curves.csv": rules_table, "correlation.csv": correlation_table, "gradient_signal.csv": signal_table,
        "imitation.csv": imitation_table,
    }  # fmt: skip
    print_tables(__doc__, Path(__file__).parent, tables)
