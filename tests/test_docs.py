"""Every command of the pages can be given as it stands: programs, files, modules, flags and recipes are there."""

import pytest

from tests.docs_commands import PAGES, Command, code_problems, page_problems, problems, read_commands

COMMANDS = [command for page in PAGES for command in read_commands(page)]


def test_pages_have_commands():
    assert len([command for command in COMMANDS if not command.is_shape]) >= 80
    assert {command.page for command in COMMANDS} > {"README.md", "docs/evaluator.md", "docs/vqa.md"}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_can_be_given(page):
    found = [f"{command}: {problem}" for command in COMMANDS if command.page == page for problem in problems(command)]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    assert page_problems(page) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("make dmeo", "make has no target dmeo"),
        ("hyperalign sing x.png", "invalid choice: 'sing'"),
        ("hyperalign rank x.png --prompt a --promt b", "--promt"),
        ("hyperalign rank x.png", "required: --prompt"),
        ("hyperalign train --dataset table --data d --output o --set a=1 --seed 3", "--seed"),
        ("python benchmarks/demo_gain/runs.py", "there is no benchmarks/demo_gain/runs.py"),
        ("python -m benchmarks.demo_gain.runs", "there is no module benchmarks.demo_gain.runs"),
        ("python benchmarks/demo_gain/run.py --name a --seed 3", "does not know --seed"),
        ("accelerate launch rl/ddpo_trian.py", "rl/ddpo_trian.py"),
        ("accelerate launch --number_processes 2 rl/ddpo_train.py", "--number_processes"),
        ("accelerate launch --config_file configs/accelerate/no.yaml rl/ddpo_train.py", "no.yaml is not there"),
        ("accelerate launch rl/ddpo_train.py --config configs/ddpo_sd16.yaml", "configs/ddpo_sd16.yaml is not there"),
        ("accelerate launch rl/ddpo_train.py --config configs/ddpo_sd15.yaml --lora_rnak 3", "--lora_rnak 3"),
        ("accelerate launch rl/ddpo_train.py --lora_rank three", "lora_rank: expected a whole number"),
        ("accelerate launch rl/direct_train.py --rewards rl.rewards.jpeg:no=1", "has no function 'no'"),
        ("hyperalign-export-lora RUN --format zip --license a --output b", "invalid choice: 'zip'"),
        ("hyperalgin score x", "hyperalgin is no program of ours"),
    ],
)
def test_what_is_wrong_with_a_command_is_found(words, problem):
    assert any(problem in found for found in problems(Command("x.md", 1, tuple(words.split())))), problem


def test_flags_of_shapes_are_looked_at():
    shape = Command("x.md", 1, ("hyperalign", "score", "PATH...", "--table", "FILE", "--outptu", "F"), is_shape=True)
    assert problems(shape) == ["there is no flag --outptu"]


def test_what_python_imports_is_looked_at():
    assert code_problems("from reward import HyperAlignReward\nimport torch, nowhere") == []
    assert code_problems("from reward import Hyper") == ["reward has no Hyper"]
    assert code_problems("import reward.backbones")[0].startswith("cannot import reward.backbones")
    assert code_problems("a b")[0].startswith("not Python")
