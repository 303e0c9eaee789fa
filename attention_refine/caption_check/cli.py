"""The `hyperalign-caption-check` command: does a captioner see in pictures what their prompts say?"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from reward.cli.flags import ArgumentParser
from reward.scoring.inputs import NoPromptError, find_rows

SOME_UNREADABLE = 1
WRONG_INPUT = 2
INTERRUPTED = 130
_NAME = "hyperalign-caption-check"

_DESCRIPTION = """Does a captioner see in pictures what their prompts say?

Asks it about each whole prompt and about each of its facts, lets it write a caption without the prompt, and does the
same with another picture's prompt as control. Pictures and prompts as for `hyperalign score`: a folder with
metadata.csv or a text file beside each picture, a table, or one --prompt for all; or --run, the base and LoRA pictures
that a run of DDPO or direct training compared at its end.

Writes index.html, checks.csv, checks.jsonl and summary.json. A run that was cut short goes on where it was when the
same command is run again. Pictures that cannot be read are listed at the end, with exit code 1."""

_EXAMPLES = f"""examples:
  python -m tinyworld.rated_pictures pictures   # draws something to try it on
  {_NAME} pictures --model tinyworld --output checks
  {_NAME} --run runs/demo --model tinyworld --output checks-demo
  {_NAME} --table prompts.csv --model llava-hf/llava-1.5-7b-hf --questions dsg.csv --output checks-dsg"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    0; 1 where pictures could not be read and all others are checked; 2 after a message about wrong input; 130 after
    Ctrl-C.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except NoPromptError as error:
        parser.error(str(error))
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print(f"\n{_NAME}: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = ArgumentParser(
        prog=_NAME, description=_DESCRIPTION, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="pictures, folders, tables, shards, datasets:NAME, or -")
    add("--table", metavar="FILE", help="table with a picture and a prompt a row (CSV, TSV, JSONL, Parquet, tar)")
    add("--image-column", metavar="NAME", help="column of pictures, if not a usual one")
    add("--prompt-column", metavar="NAME", help="column of prompts, if not a usual one")
    add("--prompt", help="one prompt for all pictures")
    add("--run", type=Path, metavar="DIR", help="run folder of rl/ddpo_train.py or rl/direct_train.py")
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--model",
        help="captioner: folder or hub id, llava-hf/llava-1.5-7b-hf for photographs; tinyworld: built in, knows "
        "coloured shapes only")  # fmt: skip
    add("--device", help="torch device, for example cuda:1; left out: a GPU where there is one")
    add("--questions", type=Path, metavar="FILE",
        help="your own questions, .csv or .json in DSG's layout; made by rule for prompts that it does not have")
    add("--questions-by", metavar="MODEL",
        help="let a chat model write them, a folder or hub id, or captioner for the captioner itself; kept in "
        "questions.json in DSG's layout, made by rule for prompts that it fails at")
    add("--question", metavar="TEXT", help="how a whole prompt is asked for, with {} in its place")
    add("--exactly-one", action="store_true", help='read "a ring" as one ring and no more, and ask for that too')
    add("--instruction", metavar="TEXT", help="what the captioner is told to do")
    add("--contrastive", metavar="MODE", choices=("residual", "post_norm", "attention_bias"),
        help="answer and caption with contrastive attention, the preset for the model's depth: residual, post_norm or "
        "attention_bias; off if left out")  # fmt: skip
    add("--batch-size", type=_positive, default=16, metavar="N", help="pictures at a time (16)")
    add("--max-new-tokens", type=_positive, default=64, metavar="N", help="longest caption (64)")
    add("--no-control", action="store_true", help="do not ask for another picture's prompt: half the questions")
    add("--page-pictures", type=int, default=200, metavar="N", help="pictures on the page, the worst first (200)")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    rows, details = _rows(arguments)
    questions = None
    if arguments.questions and arguments.questions_by:
        raise ValueError("Expected either --questions or --questions-by, got both. The latter writes a file to edit.")
    if arguments.questions:
        from attention_refine.caption_check.question_files import read_questions

        questions = read_questions(arguments.questions)
        if not any(row.prompt in questions for row in rows):
            raise ValueError(
                f"Expected questions about these pictures' prompts in {arguments.questions}, got none: prompts must be "
                f"the same to the letter. The first picture's is {rows[0].prompt!r}."
            )

    from attention_refine.caption_check.run import check_to_folder

    check = _check(arguments)
    if arguments.questions_by:
        questions = _written(arguments, check, [row.prompt for row in rows if not row.problem])
    summary, problems = check_to_folder(
        check, rows, arguments.output, questions=questions, control=not arguments.no_control,
        details=details, title=f"Caption check of {Path(_checked(arguments)).resolve().name}",
        page_pictures=arguments.page_pictures, progress=not arguments.quiet,
    )  # fmt: skip
    print(f"{summary['pictures']} pictures checked: {arguments.output / 'index.html'}")
    print(_table(summary))
    if not problems:
        return 0
    print(f"{len(problems)} of {len(rows)} pictures could not be read:", file=sys.stderr)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print("Fix them and run the same command again: only the parts that hold them are checked again.", file=sys.stderr)
    return SOME_UNREADABLE


def _written(arguments: argparse.Namespace, check, prompts):
    from attention_refine.caption_check.question_writing import FILE_NAME, THE_CAPTIONER, load_writer, write_questions

    source, own = arguments.questions_by, check.captioner
    writer = (own.model, own.processor) if source == THE_CAPTIONER else load_writer(source, arguments.device)
    questions, failed = write_questions(prompts, writer, arguments.output / FILE_NAME)
    if failed:
        told = f"{_NAME}: {source} wrote no questions for {len(failed)} prompts, for example {failed[0]!r}"
        print(f"{told}; theirs are made by rule", file=sys.stderr)
    return questions


def _rows(arguments: argparse.Namespace):
    if arguments.run is None:
        named = {"image": arguments.image_column, "prompt": arguments.prompt_column}
        named = {role: name for role, name in named.items() if name}
        tell = functools.partial(print, file=sys.stderr)
        return list(find_rows(arguments.paths, arguments.table, arguments.prompt, named, tell)), None
    if arguments.paths or arguments.table or arguments.prompt:
        raise ValueError("Expected either --run or pictures, got both. Check them one after the other.")
    from attention_refine.caption_check.run import find_run_rows

    return find_run_rows(arguments.run)


def _check(arguments: argparse.Namespace):
    from attention_refine.caption_check.check import CaptionCheck
    from attention_refine.vlm.loading import load_model

    source = arguments.model
    if source is None:
        raise ValueError(
            "Expected --model: a captioner's folder or hub id, for example llava-hf/llava-1.5-7b-hf (14 GB), or "
            "tinyworld, which is built in and knows coloured shapes only"
        )
    if source == "tinyworld":
        # An entry script may name the built-in world; the import is here so that the library never needs it.
        from tinyworld import weights_path

        source = str(weights_path("llava"))
    model, processor = load_model(source, arguments.device)
    options = {"question": arguments.question, "instruction": arguments.instruction}
    options = {name: text for name, text in options.items() if text is not None}
    if arguments.contrastive:
        from attention_refine.contrastive.config import ContrastiveAttentionConfig
        from attention_refine.vlm.decoder import find_decoder

        depth = len(find_decoder(model).layers)
        options["contrastive"] = ContrastiveAttentionConfig.for_depth(depth, mode=arguments.contrastive)
    return CaptionCheck(
        model, processor, batch_size=arguments.batch_size, max_new_tokens=arguments.max_new_tokens,
        exactly_one=arguments.exactly_one, **options,
    )  # fmt: skip


def _table(summary) -> str:
    from attention_refine.caption_check.run import MEASURES

    def number(value: float | None) -> str:
        return f"{value:9.3f}" if value is not None else f"{'-':>9}"

    columns = ["own", "control", "margin"]
    columns = ["base", "lora", "gain", *columns] if "reward" in summary else columns
    lines = [f"{'':<18}" + "".join(f"{name:>9}" for name in columns)]
    for name in [*MEASURES, *(["reward"] if "reward" in summary else [])]:
        lines.append(f"{name:<18}" + "".join(number(summary[name].get(column)) for column in columns))
    return "\n".join(lines)


def _checked(arguments: argparse.Namespace) -> Path | str:
    """What the page names: the run, table or folder that was checked; of several paths, the folder of the results."""
    one = arguments.paths[0] if len(arguments.paths) == 1 else arguments.output
    return arguments.run or arguments.table or one


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 but got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
