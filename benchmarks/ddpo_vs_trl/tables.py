"""The tables of benchmarks/README.md from speed.csv and time_to_reward.csv; `--write` puts them there.

python -m benchmarks.ddpo_vs_trl.tables [--write]
"""

from pathlib import Path
from statistics import median

from benchmarks.results_file import print_tables

FOLDER = Path(__file__).parent


def speed_table(rows: list[dict]) -> str:
    """Medians over the repeats, each with its ratio to TRL's of the same case."""
    sides: dict[tuple[str, str, int], list[dict]] = {}
    for row in rows:
        sides.setdefault((row["case"], row["side"], int(row["steps_per_pass"])), []).append(row)
    lines = [
        "| case | side | repeats | trained steps | epoch, s | CPU, s | sampling | reward | update "
        "| peak memory, MB | stored bytes | stored, with text |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for case, side, count in sorted(sides, key=lambda key: (_first(rows, key[0]), key[1] != "trl", key[2])):
        own, theirs = sides[case, side, count], sides[case, "trl", 1]
        label = "TRL 0.23.1" if side == "trl" else "ours" + (f", {count} steps a pass" if count > 1 else "")
        if own[0]["error"]:
            lines.append(f"| {case} | {label} | | | {own[0]['error']} | | | | | | | |")
            continue
        cells = [f"{len(own)}", own[0]["trained_steps"]]
        for column, pattern in (
            ("seconds", "{:.2f}"), ("cpu_seconds", "{:.2f}"), ("sampling", "{:.2f}"), ("reward", "{:.2f}"),
            ("update", "{:.2f}"), ("peak_mb", "{:.0f}"), ("stored_bytes", "{:,.0f}"), ("stored_bytes_text", "{:,.0f}"),
        ):  # fmt: skip
            value = median(float(row[column]) for row in own)
            text = pattern.format(value)
            if side == "ours" and not theirs[0]["error"]:
                # Repeat by repeat: what slowed a turn slowed both.
                ratio = median(
                    float(mine[column]) / float(other[column]) for mine, other in zip(own, theirs, strict=True)
                )
                text += f" ({ratio:.2f}x)"
            cells.append(text)
        lines.append(f"| {case} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reward_table(rows: list[dict]) -> str:
    """The sweep, then seed by seed: TRL's best, when it had it, and when ours had passed it."""
    runs: dict[tuple[str, str, str, float], list[dict]] = {}
    for row in rows:
        runs.setdefault((row["side"], row["setting"], row["seed"], float(row["budget"])), []).append(row)
    budget = max((key[3] for key in runs if key[0] == "ours"), default=0.0)
    lines = [
        "| TRL 0.23.1's setting, seed 0 | seconds | epochs | base | best held-out reward | after, s | oracle then |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    swept = {key: run for key, run in runs.items() if key[0] == "trl" and key[2] == "0"}
    shortest = min((key[3] for key in swept), default=0.0)
    for (_, setting, _, seconds), run in swept.items():
        if seconds == shortest:
            best = _best(run)
            lines.append(
                f"| {setting} | {seconds:.0f} | {run[-1]['epochs']} | {float(run[0]['reward']):.4f} "
                f"| {float(best['reward']):.4f} | {float(best['seconds']):.0f} | {float(best['oracle']):.3f} |"
            )
    lines += [
        "",
        "| seed | base | TRL's best reward (oracle) | after, s | ours passes it after, s | ratio "
        "| ours' best reward (oracle) | after, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ratios = []
    finals = {key[2]: run for key, run in runs.items() if key[0] == "trl" and key[3] == budget}
    for seed, theirs in sorted(finals.items()):
        ours = runs.get(("ours", "tinyworld/ddpo.yaml", seed, budget))
        if not ours:
            continue
        best, own = _best(theirs), _best(ours)
        ratio, passed = time_ratio(ours, theirs)
        if ratio is not None:
            ratios.append(ratio)
        lines.append(
            f"| {seed} | {float(ours[0]['reward']):.4f} | {_scored(best)} | {float(best['seconds']):.0f} "
            f"| {'never' if passed is None else f'{passed:.0f}'} | {'none' if ratio is None else f'{ratio:.2f}x'} "
            f"| {_scored(own)} | {float(own['seconds']):.0f} |"
        )
    if ratios:
        lines += ["", f"Median ratio over {len(ratios)} seeds: {median(ratios):.2f}x."]
    return "\n".join(lines)


def time_ratio(ours: list[dict], theirs: list[dict]) -> tuple[float | None, float | None]:
    """Our training seconds to TRL's best held-out reward over its own, and ours alone.

    Infinite where ours does not come to it. None where TRL's best is the base model's: it took no time.
    """
    best = _best(theirs)
    if float(best["seconds"]) == 0.0:
        return None, 0.0
    passed = [float(row["seconds"]) for row in ours if float(row["reward"]) >= float(best["reward"])]
    if not passed:
        return float("inf"), None
    return min(passed) / float(best["seconds"]), min(passed)


def _best(run: list[dict]) -> dict:
    return max(run, key=lambda row: float(row["reward"]))


def _scored(row: dict) -> str:
    return f"{float(row['reward']):.4f} ({float(row['oracle']):.3f})"


def _first(rows: list[dict], case: str) -> int:
    return next(i for i, row in enumerate(rows) if row["case"] == case)


def main() -> None:
    """The command line."""
    print_tables(__doc__, FOLDER, {"speed.csv": speed_table, "time_to_reward.csv": reward_table})


if __name__ == "__main__":
    main()
