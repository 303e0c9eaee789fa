"""What the `hyperalign` command can be told: its sub-commands, their options, and an example of each that works."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from reward.cli.flags import ArgumentParser

_PICTURES = "python -m tinyworld.rated_pictures pictures   # draws something to try it on"

_EXAMPLES = {
    "score": (
        _PICTURES,
        "hyperalign score pictures --model tinyworld",
        'hyperalign score pictures --model tinyworld --prompt "a red ring" --output scores.csv',
        "hyperalign score --table pictures/metadata.csv --model tinyworld --output scores.parquet",
    ),
    "rank": (_PICTURES, 'hyperalign rank pictures --model tinyworld --prompt "a red ring left of a blue square"'),
    "train": (
        _PICTURES,
        "hyperalign train --dataset table --data pictures --output mine --backbone tinyworld --set epochs=3",
        "hyperalign score pictures --model mine",
    ),
    "evaluate": (
        _PICTURES,
        "hyperalign evaluate --dataset table --data pictures --model tinyworld --output evaluation",
    ),
    "explain": (
        _PICTURES,
        'hyperalign explain pictures/000.png --prompt "a red ring left of a blue square" --model tinyworld '
        "--output explanation.png",
    ),
    "models": ("hyperalign models", "hyperalign models --all"),
    "serve": ("hyperalign serve --model tinyworld --port 8000",),
}

_SCORE = """Score pictures: how well does each show its prompt?

The prompt is --prompt for all, or each has its own: in a table, in metadata.csv (.jsonl, .parquet) of the pictures'
folder, or in a text file beside the picture (ring.txt for ring.png). A table is CSV (commas, semicolons or tabs), JSON
lines, Parquet, WebDataset shards or a set of `datasets`; its columns are found by their usual names, and what was
chosen is printed.

A run that was cut short goes on where it was when the same command is run again, and gives the same file.
`accelerate launch -m reward.cli score ...` shares the work between processes. Pictures that cannot be read are listed
at the end, with exit code 1; all others have their score."""

_RANK = """Rank pictures by how well they show one prompt, the best first."""

_TRAIN = """Train a reward on human scores: split by prompt, stopped by the validation part, measured on the test part.

--dataset table takes a table of your own with the columns image, prompt and score (CSV, TSV, JSON lines, Parquet, or
a folder with metadata.csv). Without --config and --backbone the towers are those of ViT-B-16/openai."""

_EVALUATE = """Evaluate a reward on human scores; or train and test recipes over ten splits.

Without --config the saved --model is tested on the pairs whose prompts it was not trained on. With one --config that
recipe is trained and tested on ten splits by prompt; with several they are rows of an ablation; with --test-data they
are tested on another data set. Controls always stand beside. Writes metrics.json, summary.json, results.csv,
predictions.csv, report.html, report.md and scatter.png."""

_MODELS = """What --model and --backbone can name, and which of it is on this machine.

--fetch downloads weights into the cache, for commands that run later without a network."""

_EXPLAIN = """Explain one score: inside or outside the prompt's cone, what the modulation did, the phrase satisfied
worst."""

_SERVE = """Serve a reward over HTTP, for trainers on this machine or another: Flow-Factory's /compute, the pickles of
flow_grpo and VeRL-Omni, and JSON at /score; /health, /metrics and /docs beside them.

Only this machine is answered unless --host says otherwise. The environment variable HYPERALIGN_TOKEN, where it is set,
holds what clients must send as "Authorization: Bearer TOKEN". One server serves one model on one device."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands; `command` names the one that was chosen."""
    parser = ArgumentParser(
        prog="hyperalign", allow_abbrev=False,
        description="How well does a picture show its prompt? Scores from a HyperAlign reward, and how to train one.",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    _score(_command(commands, "score", "score pictures against prompts", _SCORE))
    _rank(_command(commands, "rank", "print pictures, the best first", _RANK))
    _train(_command(commands, "train", "train a reward on human scores", _TRAIN))
    _evaluate(_command(commands, "evaluate", "test a reward, or recipes, on human scores", _EVALUATE))
    _explain(_command(commands, "explain", "say why a picture scores as it does", _EXPLAIN))
    _models(_command(commands, "models", "list what --model can name and what is cached", _MODELS))
    _serve(_command(commands, "serve", "serve a reward over HTTP", _SERVE))
    return parser


def _command(commands: Any, name: str, help: str, description: str) -> argparse.ArgumentParser:
    examples = "examples:\n" + "\n".join(f"  {line}" for line in _EXAMPLES[name])
    return commands.add_parser(
        name, help=help, description=description, epilog=examples, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _score(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "paths", nargs="*", metavar="PATH",
        help="picture, folder, table, shards (shard-{000..009}.tar), datasets:NAME?split=train, or - (standard input)",
    )  # fmt: skip
    command.add_argument("--prompt", help="what all the pictures should show")
    command.add_argument("--table", help=".csv, .tsv, .jsonl, .parquet or .tar with a picture and a prompt a row")
    _columns(command, "image", "prompt")
    command.add_argument("--output", type=Path, help=".csv, .jsonl or .parquet file; left out: CSV on standard output")
    _model(command)
    _dtype(command)
    _batch_size(command)
    command.add_argument(
        "--engine", default="plain", choices=("plain", "ray"),
        help="ray: an actor a GPU or core, on this machine or the cluster of RAY_ADDRESS (extra ray)",
    )  # fmt: skip
    command.add_argument("--workers", type=_positive, metavar="N", help="with --engine ray: how many actors")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _rank(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="as for score: pictures, folders, shards, ...")
    command.add_argument("--prompt", required=True, help="what the pictures should show")
    _columns(command, "image")
    _model(command)
    _dtype(command)
    _batch_size(command)


def _train(command: argparse.ArgumentParser) -> None:
    _dataset(command)
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="new folder for the model")
    command.add_argument("--config", type=Path, help="recipe, such as configs/hyperalign_entail_two_sided.yaml")
    _backbone(command)
    command.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=VALUE", help="fields of the recipe (listed below) to change"
    )
    command.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    _cache(command)
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    command.epilog = f"{command.epilog}\n\n{_recipe_fields()}"


def _evaluate(command: argparse.ArgumentParser) -> None:
    _model(command)
    _dataset(command)
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the report")
    command.add_argument("--config", nargs="+", type=Path, help="recipes to train and test instead of --model")
    command.add_argument("--seeds", type=int, default=10, metavar="N", help="with --config: splits (10)")
    command.add_argument("--test-dataset", metavar="NAME", help="with --config: kind of the data set to test on")
    command.add_argument("--test-data", type=Path, metavar="PATH", help="with --config: the data set to test on")
    _backbone(command)
    _cache(command)
    command.add_argument("--quiet", action="store_true", help="no progress bars")


def _explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", type=Path, metavar="IMAGE", help="one picture")
    command.add_argument("--prompt", required=True, help="what it should show")
    command.add_argument("--output", type=Path, help="picture of the explanation (.png, .svg, .pdf)")
    _model(command)


def _models(command: argparse.ArgumentParser) -> None:
    command.add_argument("--all", action="store_true", help="every open_clip NAME/TAG too")
    command.add_argument(
        "--fetch", nargs="+", default=[], metavar="NAME", help="download the weights of these models"
    )


def _serve(command: argparse.ArgumentParser) -> None:
    _model(command)
    command.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1); 0.0.0.0 for all")
    command.add_argument("--port", type=int, default=8000, help="port to listen at (8000); 0: any free one")
    _batch_size(command)
    command.add_argument(
        "--max-wait-ms", type=float, default=5.0, metavar="MS",
        help="how long an idle model waits for requests that are on their way, to score them together (5)",
    )  # fmt: skip
    command.add_argument("--queue", type=_positive, default=16384, metavar="N", help="pictures that may wait (16384)")
    command.add_argument("--max-body-mb", type=_positive, default=64, metavar="MB", help="size of one request (64)")


def _model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        help="HyperAlign folder or hub id, open_clip NAME/TAG, or tinyworld (hyperalign models lists them); left out: "
        "ViT-B-16/openai",
    )  # fmt: skip
    command.add_argument("--device", help="torch device, for example cuda:1; left out: a GPU where there is one")


def _dtype(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dtype", default="float32", choices=("auto", "float32", "bfloat16", "float16", "int8"),
        help="of the towers (float32); auto: bfloat16 where the machine has units for it; int8: on CPUs, extra int8",
    )  # fmt: skip


def _batch_size(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="pictures at a time (32)")


def _dataset(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--dataset", required=True, metavar="NAME", help="agiqa-3k, aigciqa2023, pku-i2iqa, or table for your own"
    )
    command.add_argument(
        "--data", required=True, metavar="PATH", help="its folder, the table, shards, or datasets:NAME?split=train"
    )
    command.add_argument(
        "--columns", nargs="+", default=[], metavar="ROLE=NAME",
        help="of a table: its columns where not image, prompt, score; for example score=mos",
    )  # fmt: skip
    _columns(command, "image", "prompt", "score")
    command.add_argument(
        "--skip-bad", action="store_true", help="leave out rows and pictures that cannot be used, and list them"
    )


def _columns(command: argparse.ArgumentParser, *roles: str) -> None:
    for role in roles:
        command.add_argument(f"--{role}-column", metavar="NAME", help=f"column of {role}s, if not a usual one")


def _backbone(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backbone", metavar="NAME",
        help="open_clip NAME/TAG, local-dir:DIR, hf-hub:ORG/REPO or tinyworld, instead of the recipe's",
    )  # fmt: skip


def _cache(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cache", type=Path, metavar="DIR", help="where features are kept; left out: ~/.cache/hyperalign/features"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 but got {number}")
    return number


def _recipe_fields() -> str:
    """Every field of a recipe with its default, from the dataclasses themselves."""
    from reward.model.config import HyperAlignConfig
    from reward.training.recipe import TrainingConfig

    lines = ["fields of a recipe:"]
    for prefix, kind in (("", TrainingConfig), ("model.", HyperAlignConfig)):
        for item in dataclasses.fields(kind):
            if item.name not in ("model", "embed_dim"):
                name = f"{prefix}{item.name}={'null' if item.default is None else item.default}"
                lines.append(f"  {name:<34} {item.metadata['help']}".replace("%", "%%"))
    return "\n".join(lines)
