import subprocess
import sys
import time
from pathlib import Path

import pytest

import reward

ROOT = Path(__file__).parents[2]


def run(code: str) -> tuple[str, float]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, time.perf_counter() - start


@pytest.mark.parametrize("use", ["", "; reward.HyperAlignReward, reward.fit_head, reward.HyperAlignConfig"])
def test_no_heavy_dependency_is_pulled_in(use):
    heavy = "{'diffusers', 'trl', 'open_clip', 'transformers', 'torchvision', 'scipy'}"
    output, _ = run(f"import sys, reward{use}; print(sorted({heavy} & set(sys.modules)))")
    assert output.strip() == "[]"


def test_import_costs_little_more_than_torch():
    run("import torch")  # fills the disk cache
    torch_seconds = min(run("import torch")[1] for _ in range(3))
    reward_seconds = min(run("import reward")[1] for _ in range(3))
    assert reward_seconds <= 1.3 * torch_seconds


def test_public_names():
    assert dir(reward) == sorted(reward.__all__)
    for name in reward.__all__:
        assert getattr(reward, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'reward' has no attribute 'Hyper'; public names are HyperAlign,"):
        reward.Hyper  # noqa: B018


def test_nothing_imports_the_other_packages():
    # the command line is an entry script: it may resolve tinyworld names
    for source in set((ROOT / "reward").rglob("*.py")) - {ROOT / "reward" / "cli" / "main.py"}:
        for line in source.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("rl", "tinyworld", "attention_refine"), f"{source}: {line}"
