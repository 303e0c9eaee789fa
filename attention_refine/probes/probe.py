"""Where does a model meet the image? Layer-wise masking, the shift of attention, and layers for contrastive attention.

    python -m attention_refine.probes --model llava-hf/llava-1.5-7b-hf --dataset gqa --data gqa --limit 500 \
        --output runs/probe
    python -m attention_refine.vqa --layers runs/probe/proposal.json ...

Writes into the output folder masking.csv (accuracy with the image zeroed from each layer on), attention_shift.csv,
hellinger.csv (distances between all pairs of layers), proposal.json (post, candidate and review layers, and why) and
probe.png. Run again after an interruption, it goes on where it was. Any model that AttentionCapture takes; the data
sets of attention_refine.vqa, or a table (.csv, .tsv, .jsonl) with the columns image, question and answer.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attention_refine.probes.layer_proposal import LayerProposal, propose_layers
from attention_refine.vqa.layouts import DATASETS, VQAQuestion, find_dataset, load_questions
from attention_refine.vqa.table import image_bootstrap, write_table
from reward.cli.flags import ArgumentParser
from reward.files.writing import write_text

WRONG_INPUT = 2


@dataclass(frozen=True)
class Probe:
    """What a probe found; percentages, each with the ends of its 95 % interval as NAME_low and NAME_high.

    Attributes:
        masking: for each layer 0 to L: layer, accuracy with the image zeroed from it on (L: the bare model), and
            gain, what that layer adds (none for L).
        shift: for each layer: layer, image_share, step (distance to the layer before), to_post (distance to the
            proposed post layer).
        distance: (L, L) mean Hellinger distance.
        proposal: None where the model answers no better with the image; then `refusal` says so.
    """

    masking: list[dict[str, Any]]
    shift: list[dict[str, Any]]
    distance: np.ndarray
    proposal: LayerProposal | None
    refusal: str = ""


@dataclass(frozen=True)
class _ZeroedRow:
    """A way to run the model, for `predict`: with the image zeroed from a layer on."""

    layer: int

    @property
    def name(self) -> str:
        return f"zeroed_from_{self.layer:02d}"

    @property
    def settings(self) -> dict[str, int]:
        return {"zeroed_from": self.layer}

    def around(self, model: Any) -> contextlib.AbstractContextManager:
        from attention_refine.probes.layer_masking import ImageZeroedFrom

        return ImageZeroedFrom(model, self.layer)


def probe(
    model: Any,
    processor: Any,
    dataset: str,
    questions: Sequence[VQAQuestion],
    output: Path,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 16,
    advance: Callable[[int], object] = lambda questions: None,
) -> Probe:
    """Answers all questions once for each layer and once bare, and records the attention of every layer.

    Args:
        model, processor: an `AutoModelForImageTextToText` and its own processor.
        dataset: one of `DATASETS`; it brings the metric and the instruction.
        questions: of `load_questions`; a few hundred give intervals of a few percent.
        output: folder; answers are kept in its `predictions/`, and what is there is not asked again.
        advance: told how many questions more are done; in all there are (layers + 1) times as many.

    Raises:
        OSError: a picture cannot be read.
        ValueError: what `AttentionCapture` refuses.
    """
    from attention_refine.probes.attention_shift import measure_shift
    from attention_refine.vlm.decoder import find_decoder
    from attention_refine.vqa.answering import Answerer
    from attention_refine.vqa.predictions import model_digest, predict

    how = find_dataset(dataset)
    answerer = Answerer(model, processor, how.instruction, max_new_tokens)
    key = model_digest(model)
    depth = len(find_decoder(model).layers)
    scores = []
    for layer in range(depth + 1):
        records = predict(
            answerer, _ZeroedRow(layer), questions, how.score, output / "predictions", batch_size=batch_size,
            model_key=key, advance=advance,
        )  # fmt: skip
        scores.append([record["score"] for record in records])
    shift = measure_shift(answerer, questions, batch_size)
    images = [str(q.image) for q in questions]
    accuracy = 100 * np.array(scores).T
    masking = _with_intervals({"accuracy": accuracy, "gain": np.diff(accuracy, axis=1)}, images)
    gains = [[row[name] / 100 for row in masking[:depth]] for name in ("gain", "gain_low")]
    proposal, refusal = None, ""
    try:
        proposal = propose_layers(*gains, shift.image_share.mean(0).tolist())
    except ValueError as error:
        refusal = str(error)
    columns = {"image_share": 100 * shift.image_share, "step": shift.steps()}
    if proposal:
        columns["to_post"] = shift.distance[:, :, proposal.post_layer]
    return Probe(masking, _with_intervals(columns, images), shift.distance.mean(0), proposal, refusal)


def write_probe(found: Probe, output: Path, metric: str, title: str, chart: bool = True) -> list[Path]:
    """Write the files of a probe; returns their paths.

    Raises:
        ImportError: matplotlib is not installed, with `chart`.
    """
    paths = [
        write_table(output / "masking.csv", found.masking, list(found.masking[0])),
        write_table(output / "attention_shift.csv", found.shift, list(found.shift[-1])),
        write_table(
            output / "hellinger.csv",
            [{"layer": i} | {str(j): float(h) for j, h in enumerate(row)} for i, row in enumerate(found.distance)],
            ["layer", *map(str, range(len(found.distance)))],
        ),
    ]
    if found.proposal:
        text = json.dumps(dataclasses.asdict(found.proposal), indent=2)
        paths.append(write_text(output / "proposal.json", text + "\n"))
    if chart:
        from attention_refine.probes.chart import draw_probe

        paths.append(draw_probe(found.masking, found.shift, found.proposal, metric, title, output / "probe.png"))
    return paths


def _with_intervals(columns: dict[str, np.ndarray], images: Sequence[str]) -> list[dict[str, Any]]:
    """(N, L) values by name -> L rows of layer, and of each name's mean with its interval; a NaN column is left out."""
    rows: list[dict[str, Any]] = [{"layer": layer} for layer in range(max(c.shape[1] for c in columns.values()))]
    for name, values in columns.items():
        low, high = np.quantile(image_bootstrap(values, images), (0.025, 0.975), axis=0)
        for layer in range(values.shape[1]):
            if np.isfinite(values[:, layer]).all():
                ends = {f"{name}_low": float(low[layer]), f"{name}_high": float(high[layer])}
                rows[layer] |= {name: float(values[:, layer].mean())} | ends
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 2 after a message about wrong input."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"attention_refine.probes: {error}", file=sys.stderr)
        return WRONG_INPUT


def _run(arguments: argparse.Namespace) -> int:
    questions = load_questions(arguments.dataset, arguments.data, arguments.split, arguments.limit)

    from tqdm import tqdm

    from attention_refine.vlm.decoder import find_decoder
    from attention_refine.vlm.loading import load_model

    model, processor = load_model(arguments.model, arguments.device)
    total = len(questions) * (len(find_decoder(model).layers) + 1)
    with tqdm(desc="questions", total=total, disable=arguments.quiet) as bar:
        found = probe(
            model, processor, arguments.dataset, questions, arguments.output, batch_size=arguments.batch_size,
            max_new_tokens=arguments.max_new_tokens, advance=bar.update,
        )  # fmt: skip
    metric = find_dataset(arguments.dataset).metric
    title = f"{Path(arguments.model).name}, {len(questions)} questions of {arguments.dataset}"
    for path in write_probe(found, arguments.output, metric, title, not arguments.no_chart):
        print(path)
    print(found.refusal or "\n".join(found.proposal.reasons))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m attention_refine.probes", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", required=True, help="folder or hub id of a LLaVA or its like")
    parser.add_argument("--dataset", default="table", choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, metavar="PATH", help="its folder, or the table")
    parser.add_argument("--split", help="left out: the usual one, such as val2014 or testdev_balanced")
    parser.add_argument("--limit", type=int, metavar="N", help="only N questions, evenly spread over the file")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, default=16, metavar="N")
    parser.add_argument("--device", help="torch device; left out: a GPU where there is one")
    parser.add_argument("--no-chart", action="store_true", help="no probe.png, for which matplotlib is needed")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
