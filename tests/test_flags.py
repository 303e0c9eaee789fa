"""No command forgets what it was told: a repeated flag adds up or is refused, in every parser of the project."""

import argparse

import pytest

from tests.entry_points import parser_of_function, parser_of_script, scripts, sub_commands

CONSOLE = ("reward.cli.main:main", "rl.ddpo_train:main", "rl.direct_train:main", "rl.export_lora:main",
           "rl.nft_train:main", "rl.matching_train:main", "rl.dpo_train:main",
           "attention_refine.caption_check.cli:main")  # fmt: skip


def forgotten(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of which a second value replaces the first without a word; those of sub-commands too."""
    found = []
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        flag, several = action.option_strings[-1], action.nargs in ("+", "*")
        namespace, parser.flags_given = argparse.Namespace(), {}
        setattr(namespace, action.dest, action.default)
        one, two = (["a"], ["b"]) if several else ("a", "b")
        try:
            action(parser, namespace, one, flag)
            action(parser, namespace, two, flag)
        except argparse.ArgumentError as error:
            if not several and "given twice, as 'a' and as 'b'" in str(error):
                continue
            raise
        if not several or getattr(namespace, action.dest) != ["a", "b"]:
            found.append(flag)
    for name, command in sub_commands(parser).items():
        found += [f"{name} {flag}" for flag in forgotten(command)]
    return found


@pytest.mark.parametrize("file", scripts())
def test_no_script_forgets_a_repeated_flag(file):
    assert forgotten(parser_of_script(file)) == []


@pytest.mark.parametrize("name", CONSOLE)
def test_no_command_forgets_a_repeated_flag(name):
    assert forgotten(parser_of_function(name)) == []


def test_a_forgotten_flag_is_found():
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--tag", nargs="+", action="extend", default=[])
    parser.add_subparsers(dest="command").add_parser("go").add_argument("--far")
    assert forgotten(parser) == ["--set", "--seed", "go --far"]
