"""VQA benchmarks for the bare model and for contrastive attention in each mode, with the official metrics.

    python -m attention_refine.vqa --dataset gqa --data gqa --model llava-hf/llava-1.5-7b-hf --output runs/gqa
    accelerate launch --num_processes 4 -m attention_refine.vqa ...      # the same, shared between processes

Writes results.csv and results.md into the output folder, and every answer into predictions/. Run again after an
interruption, it goes on where it was. Data sets: vqav2, gqa, okvqa, vizwiz, textvqa, docvqa, in the folder layout of
docs/vqa.md; or table, for a .csv, .tsv or .jsonl of one's own with the columns image, question and answer.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig
from attention_refine.vqa.layouts import DATASETS, VQAQuestion, find_dataset, load_questions
from attention_refine.vqa.rows import VQARow, table_rows
from attention_refine.vqa.table import COLUMNS, format_table, score_table, write_table
from reward.cli.flags import ArgumentParser
from reward.parallel.processes import Processes

WRONG_INPUT = 2
_SETTINGS = ("dataset", "split", "metric", "model")
_CONFIG = ("mode", "post_layer", "candidate_layers", "review_layer", "rho", "lam")


def evaluate(
    model: Any,
    processor: Any,
    dataset: str,
    questions: Sequence[VQAQuestion],
    rows: Sequence[VQARow],
    output: Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 16,
    processes: Processes | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Answers all questions in each row and scores them.

    Args:
        model, processor: an `AutoModelForImageTextToText` and its own processor.
        dataset: one of `DATASETS`; it brings the metric and the instruction.
        questions: of `load_questions`.
        rows: the first is what the others are compared to; of `table_rows`.
        output: folder; answers are kept in its `predictions/`, and what is there is not asked again.
        batch_size: questions at a time.
        processes: of this run; in those other than the main one the result is empty.
        progress: show a bar.

    Returns:
        `score_table`'s rows.

    Raises:
        OSError: a picture cannot be read.
    """
    from tqdm import tqdm

    from attention_refine.vqa.answering import Answerer
    from attention_refine.vqa.predictions import model_digest, predict

    processes = processes or Processes()
    how = find_dataset(dataset)
    answerer = Answerer(model, processor, how.instruction, max_new_tokens)
    key = model_digest(model)
    scores = {}
    for row in rows:
        share = -(-len(questions) // processes.count)
        with tqdm(desc=row.name, total=share, disable=not (progress and processes.is_main)) as bar:
            records = predict(
                answerer, row, questions, how.score, output / "predictions", batch_size=batch_size, model_key=key,
                processes=processes, advance=bar.update,
            )  # fmt: skip
        scores[row.name] = [record["score"] for record in records]
    return score_table(scores, [str(q.image) for q in questions]) if processes.is_main else []


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 2 after a message about wrong input."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"attention_refine.vqa: {error}", file=sys.stderr)
        return WRONG_INPUT


def _run(arguments: argparse.Namespace) -> int:
    questions = load_questions(arguments.dataset, arguments.data, arguments.split, arguments.limit)

    from attention_refine.vlm.decoder import find_decoder
    from attention_refine.vlm.loading import load_model

    processes, device = Processes.start()
    model, processor = load_model(arguments.model, arguments.device or device)
    config = _config(arguments, len(find_decoder(model).layers))
    rows = table_rows(config, arguments.modes)
    table = evaluate(
        model, processor, arguments.dataset, questions, rows, arguments.output, batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens, processes=processes, progress=not arguments.quiet,
    )  # fmt: skip
    if not processes.is_main:
        return 0
    how = find_dataset(arguments.dataset)
    settings = [arguments.dataset, arguments.split or how.splits[0], how.metric, arguments.model]
    described = [
        dict(zip(_SETTINGS, settings, strict=True)) | (_described(row.config) if row.config else {}) | line
        for row, line in zip(rows, table, strict=True)
    ]
    write_table(arguments.output / "results.csv", described, (*_SETTINGS, *COLUMNS, *_CONFIG))
    from reward.files.writing import write_text

    write_text(arguments.output / "results.md", format_table(table, how.metric) + "\n")
    print(format_table(table, how.metric))
    return 0


def _config(arguments: argparse.Namespace, depth: int) -> ContrastiveAttentionConfig:
    """The depth's preset, then the layers of a probe's proposal, then what is named on the command line."""
    changes: dict[str, Any] = {}
    if arguments.layers:
        if not arguments.layers.is_file():
            raise FileNotFoundError(f"Expected {arguments.layers}, which attention_refine.probes writes; none there.")
        known = json.loads(arguments.layers.read_text(encoding="utf-8"))
        changes |= {name: known[name] for name in ("post_layer", "candidate_layers", "review_layer")}
    for name in ("post_layer", "candidate_layers", "review_layer", "rho", "lam"):
        if getattr(arguments, name) is not None:
            changes[name] = getattr(arguments, name)
    return ContrastiveAttentionConfig.for_depth(depth, **changes)


def _described(config: ContrastiveAttentionConfig) -> dict[str, Any]:
    values = config.to_dict()
    return {name: values[name] for name in _CONFIG} | {
        "candidate_layers": " ".join(map(str, values["candidate_layers"]))
    }


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m attention_refine.vqa", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, metavar="PATH", help="its folder, or the table")
    parser.add_argument("--split", help="left out: the usual one, such as val2014 or testdev_balanced")
    parser.add_argument("--limit", type=int, metavar="N", help="only N questions, evenly spread over the file")
    parser.add_argument("--model", required=True, help="folder or hub id of a LLaVA or its like")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES, help="rows beside base (all)")
    parser.add_argument("--layers", type=Path, metavar="FILE", help="proposal.json of attention_refine.probes")
    parser.add_argument("--post-layer", type=int, metavar="K")
    parser.add_argument("--candidate-layers", type=int, nargs="+", metavar="I")
    parser.add_argument("--review-layer", type=int, metavar="R")
    parser.add_argument("--rho", type=float, help="share of image tokens to scale (0.2)")
    parser.add_argument("--lam", type=float, help="their scale (0.1)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, default=16, metavar="N")
    parser.add_argument("--device", help="torch device; left out: a GPU where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser
