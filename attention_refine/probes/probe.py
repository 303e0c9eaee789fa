"""Find the layers in which a model reads the image, and propose layers for contrastive attention.

    python -m attention_refine.probes --model llava-hf/llava-1.5-7b-hf --dataset gqa --data gqa --limit 500 \
        --output runs/probe
    python -m attention_refine.vqa --layers runs/probe/proposal.json ...

Writes to the output folder masking.csv (accuracy with the image zeroed from each layer on), attention_shift.csv (how
the attention over the image changes), hellinger.csv (distances between all pairs of layers), proposal.json (post,
candidate and review layers with reasons) and probe.png. Run the command again after an interruption to continue. Works
with every model that AttentionCapture supports, and with the data sets of attention_refine.vqa or a table (.csv, .tsv,
.jsonl) with the columns image, question and answer.
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
    """The result of a probe of a model with L layers. Each value NAME has a 95 % interval, NAME_low to NAME_high.

    Attributes:
        masking: a row for each layer 0 to L: layer, accuracy in % with the image zeroed from it on (L: the unchanged
            model), and gain in %, what this layer adds (missing for L).
        shift: a row for each layer: layer, image_share in %, step (distance to the layer before), to_post (distance to
            the proposed post layer).
        distance: mean Hellinger distances between layers, (L, L).
        proposal: None if the model does not answer better with the image; `refusal` then says why.
    """

    masking: list[dict[str, Any]]
    shift: list[dict[str, Any]]
    distance: np.ndarray
    proposal: LayerProposal | None
    refusal: str = ""


@dataclass(frozen=True)
class _ZeroedRow:
    """A row for `predict`: the model with the image zeroed from `layer` on."""

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
    """Probe a model: answer all questions with the image zeroed from each layer on, and record the attention.

    Args:
        model, processor: an `AutoModelForImageTextToText` and its own processor.
        dataset: one of `DATASETS`; it sets the metric and the instruction.
        questions: from `load_questions`; a few hundred give intervals of a few percent.
        output: folder. Answers are saved in its `predictions/`; saved answers are reused.
        batch_size: questions answered at once.
        max_new_tokens: longest answer in tokens.
        advance: called with the number of further questions that are done; in total (L + 1) times the number of
            questions.

    Raises:
        OSError: a picture cannot be read.
        ValueError: as `AttentionCapture`.
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
    """Write the files of a probe to the folder `output`; returns their paths.

    Raises:
        ImportError: `chart` is True and matplotlib is not installed.
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
    """(N, L) values by name -> a row per layer with the mean and interval of each name. NaN columns are left out."""
    rows: list[dict[str, Any]] = [{"layer": layer} for layer in range(max(c.shape[1] for c in columns.values()))]
    for name, values in columns.items():
        low, high = np.quantile(image_bootstrap(values, images), (0.025, 0.975), axis=0)
        for layer in range(values.shape[1]):
            if np.isfinite(values[:, layer]).all():
                ends = {f"{name}_low": float(low[layer]), f"{name}_high": float(high[layer])}
                rows[layer] |= {name: float(values[:, layer].mean())} | ends
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, or 2 after a message about wrong input."""
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
    parser.add_argument("--model", required=True, help="folder or hub id of LLaVA or a similar model")
    parser.add_argument("--dataset", default="table", choices=DATASETS, help="data set (table)")
    parser.add_argument("--data", required=True, type=Path, metavar="PATH", help="folder of the data set, or the table")
    parser.add_argument("--split", help="by default the usual one, such as val2014 or testdev_balanced")
    parser.add_argument("--limit", type=int, metavar="N", help="use only N questions, evenly spread over the file")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="questions answered at once (8)")
    parser.add_argument("--max-new-tokens", type=int, default=16, metavar="N", help="longest answer in tokens (16)")
    parser.add_argument("--device", help="torch device; by default a GPU if there is one")
    parser.add_argument("--no-chart", action="store_true", help="do not write probe.png, which needs matplotlib")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
