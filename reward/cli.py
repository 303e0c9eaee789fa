"""The `hyperalign` command: score pictures against a prompt, or rank them."""

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_BATCH = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after a message about wrong input."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (OSError, TypeError, ValueError) as error:
        print(f"hyperalign {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hyperalign", description="How well does a picture show its prompt? Scores from a HyperAlign reward.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="score pictures against a prompt", allow_abbrev=False)
    score.add_argument("--output", type=Path, help=".csv or .jsonl file; left out: CSV on standard output")
    score.set_defaults(run=_score)
    rank = commands.add_parser("rank", help="print pictures, the best first", allow_abbrev=False)
    rank.set_defaults(run=_rank)
    for command in (score, rank):
        command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="picture, or folder of pictures")
        command.add_argument("--prompt", required=True, help="what the pictures should show")
        command.add_argument("--model", help="HyperAlign folder or hub id; left out: the built-in tiny world's")
        command.add_argument("--device", help="torch device, for example cuda; left out: cpu")
    return parser


def _score(arguments: argparse.Namespace) -> None:
    write = _writer(arguments.output)  # before the work: a wrong suffix should not cost an hour of scoring
    pictures = find_pictures(arguments.paths)
    scores = score_pictures(pictures, arguments.prompt, arguments.model, arguments.device)
    rows = [
        {"path": str(picture), "prompt": arguments.prompt, "score": score}
        for picture, score in zip(pictures, scores, strict=True)
    ]
    text = write(rows)
    if arguments.output is None:
        sys.stdout.write(text)
        return
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = arguments.output.with_name(f".{arguments.output.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, arguments.output)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{len(rows)} scores in {arguments.output}")


def _rank(arguments: argparse.Namespace) -> None:
    pictures = find_pictures(arguments.paths)
    scores = score_pictures(pictures, arguments.prompt, arguments.model, arguments.device)
    ranked = sorted(zip(scores, pictures, strict=True), key=lambda pair: -pair[0])
    for place, (score, picture) in enumerate(ranked, start=1):
        print(f"{place:4d}  {score:8.4f}  {picture}")


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The given files, and the pictures that lie directly in the given folders, in order of name.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _PICTURES)
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"Expected a picture or a folder, found nothing at {path}.")
    if not found:
        raise ValueError(
            f"Expected pictures ({', '.join(sorted(_PICTURES))}), found none in {', '.join(map(str, paths))}."
        )
    return found


def score_pictures(pictures: Sequence[Path], prompt: str, model: str | None, device: str | None) -> list[float]:
    """One score a picture; `model` None is the tiny world's, which knows coloured shapes and nothing else."""
    import torch

    from reward.hyperalign_reward import HyperAlignReward

    if model is None:
        # An entry script may name the built-in world; the import is here so that the library never needs it.
        from tinyworld import weights_path

        model = str(weights_path("hyperalign"))
        print("hyperalign: no --model given, using the built-in one: it knows coloured shapes only", file=sys.stderr)
    reward = HyperAlignReward.from_pretrained(model, device=device)
    scores: list[float] = []
    with torch.no_grad():
        for start in range(0, len(pictures), _BATCH):
            batch = [str(picture) for picture in pictures[start : start + _BATCH]]
            scores += reward(batch, prompt).float().tolist()
    return scores


def _writer(output: Path | None):
    suffix = ".csv" if output is None else output.suffix
    if suffix not in (".csv", ".jsonl"):
        raise ValueError(f"Expected --output to end in .csv or .jsonl, got {output}.")
    return _as_csv if suffix == ".csv" else _as_jsonl


def _as_csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_jsonl(rows: Sequence[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
