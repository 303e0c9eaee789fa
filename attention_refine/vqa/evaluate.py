"""Run VQA benchmarks with the official metrics, for the unchanged model and for each mode of contrastive attention.

    python -m attention_refine.vqa --dataset gqa --data gqa --model llava-hf/llava-1.5-7b-hf --output runs/gqa
    accelerate launch --num_processes 4 -m attention_refine.vqa ...      # the same, shared between processes

Writes results.csv and results.md to the output folder, and all answers to predictions/. Run the command again after an
interruption to continue. Data sets: vqav2, gqa, okvqa, vizwiz, textvqa, docvqa, in the folder layout of docs/vqa.md; or
table, for your own .csv, .tsv or .jsonl file with the columns image, question and answer.
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
    """Answer all questions once for each row of the table, and score the answers.

    Args:
        model, processor: an `AutoModelForImageTextToText` and its own processor.
        dataset: one of `DATASETS`; it sets the metric and the instruction.
        questions: from `load_questions`.
        rows: from `table_rows`. The others are compared to the first.
        output: folder. Answers are saved in its `predictions/`; saved answers are reused.
        batch_size: questions answered at once.
        max_new_tokens: longest answer in tokens.
        processes: the processes of this run; only the main process gets a result.
        progress: show a bar for each row.

    Returns:
        the rows of `score_table`; in other processes than the main one an empty list.

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
    """Run the command line. Returns the exit code: 0, or 2 after a message about wrong input."""
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
    """The preset for the depth, changed by the layers of a probe, then by the options on the command line."""
    changes: dict[str, Any] = {}
    if arguments.layers:
        if not arguments.layers.is_file():
            raise FileNotFoundError(
                f"Expected a proposal.json of attention_refine.probes but there is no file {arguments.layers}."
            )
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
    parser.add_argument("--data", required=True, type=Path, metavar="PATH", help="folder of the data set, or the table")
    parser.add_argument("--split", help="by default the usual one, such as val2014 or testdev_balanced")
    parser.add_argument("--limit", type=int, metavar="N", help="use only N questions, evenly spread over the file")
    parser.add_argument("--model", required=True, help="folder or hub id of LLaVA or a similar model")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES, help="modes to compare (all)")
    parser.add_argument("--layers", type=Path, metavar="FILE", help="proposal.json of attention_refine.probes")
    parser.add_argument("--post-layer", type=int, metavar="K", help="by default from --layers or the preset")
    parser.add_argument("--candidate-layers", type=int, nargs="+", metavar="I", help="the same")
    parser.add_argument("--review-layer", type=int, metavar="R", help="the same")
    parser.add_argument("--rho", type=float, help="share of image tokens to scale (0.2)")
    parser.add_argument("--lam", type=float, help="factor by which they are scaled (0.1)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="questions answered at once (8)")
    parser.add_argument("--max-new-tokens", type=int, default=16, metavar="N", help="longest answer in tokens (16)")
    parser.add_argument("--device", help="torch device; by default a GPU if there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser
