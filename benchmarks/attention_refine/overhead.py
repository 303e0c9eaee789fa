"""Overhead of contrastive attention in `generate`. Writes overhead.csv and prints medians.

python -m benchmarks.attention_refine.overhead [--repeats 9] [--tokens 64]

Five processes take turns, with one thread each: the plain model (sdpa), the wrapper in its three modes, and eager
attention with output_attentions=True, the usual way to read the attention.

    seconds        wall time of one generate
    cpu_seconds    CPU time of one generate, which other work on the machine disturbs less
    peak_mb        peak resident memory while it ran
    rise_mb        the peak minus the memory before
"""

from pathlib import Path
from statistics import median

from benchmarks.results_file import write_rows
from benchmarks.sides import Side, take_turns
from reward.cli.flags import ArgumentParser

RESULTS = Path(__file__).with_name("overhead.csv")
WAYS = ("bare", "residual", "post_norm", "attention_bias", "eager")
COLUMNS = ("way", "repeat", "tokens", "million_parameters", "seconds", "cpu_seconds", "peak_mb", "rise_mb")


def main() -> None:
    """Run the sides, write the rows, print medians and ratios."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="besides bare and eager")
    options = parser.parse_args()
    target = "benchmarks.attention_refine.generate_side:GenerateSide"
    ways = [way for way in WAYS if way in ("bare", "eager", *options.ways)]
    sides = [
        Side({"way": way, "tokens": options.tokens}, target, {"way": way, "tokens": options.tokens}) for way in ways
    ]
    rows = take_turns(sides, options.repeats, warm_up=1)
    failed = [row for row in rows if row.get("error")]
    if failed:
        raise RuntimeError(f"Expected every side to run, got {failed[0]['error']!r} from {failed[0]['way']}.")
    write_rows(RESULTS, COLUMNS, rows)
    print(table(rows))


def table(rows: list[dict]) -> str:
    """Medians of each way as a Markdown table, with the ratios to the plain model and to eager attention."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    of = {
        way: {name: median(float(row[name]) for row in rows if row["way"] == way) for name in COLUMNS[4:]}
        for way in ways
    }
    lines = ["| | s | CPU s | × bare | × eager | peak MB | rise MB |", "|---|---|---|---|---|---|---|"]
    for way in sorted(ways, key=WAYS.index):
        m = of[way]
        ratios = (f"{m['cpu_seconds'] / of[other]['cpu_seconds']:.3f}" for other in ("bare", "eager"))
        lines.append(
            f"| {way} | {m['seconds']:.2f} | {m['cpu_seconds']:.2f} | {' | '.join(ratios)} | {m['peak_mb']:.0f} "
            f"| {m['rise_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
