import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import rl
from rl.ddpo_train import main
from rl.packaged import resolve_packaged

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path, tiny_pipeline_folder, monkeypatch):
    (tmp_path / "toy_source.py").write_text(
        "def redness(images, prompts, metadata): return images[:, 0].mean((1, 2)), {}\n"
        "def prompts(): return ['a red circle', 'a blue square']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {tiny_pipeline_folder}\noutput_dir: {tmp_path / 'run'}\nrewards: ['toy_source:redness']\n"
        "prompts: toy_source:prompts\neval_prompts: toy_source:prompts\nnum_epochs: 1\nsample_num_steps: 3\n"
        "sample_batch_size: 4\nsample_num_batches_per_epoch: 1\nsample_group_size: 2\ntrain_batch_size: 4\n"
        "log_with: null\n"
    )
    return path


def test_trains_from_a_config_and_resumes(recipe, tmp_path):
    main(["--config", str(recipe)])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 1
    main(["--resume_from", str(tmp_path / "run"), "--num_epochs", "2"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_config_errors_end_in_one_line(recipe, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--config", str(recipe), "--lora_rnk", "3"])
    assert str(caught.value) == "hyperalign-ddpo: Unknown flag --lora_rnk. Did you mean 'lora_rank'?"


def test_runs_as_a_script_from_the_repo_root():
    done = subprocess.run(
        [sys.executable, "rl/ddpo_train.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage: hyperalign-ddpo [--config FILE]" in done.stdout


def test_packaged_names(monkeypatch):
    stub = types.ModuleType("tinyworld")
    stub.weights_path = lambda name: Path("/packaged") / name
    monkeypatch.setitem(sys.modules, "tinyworld", stub)
    assert resolve_packaged("tinyworld:stable-diffusion") == "/packaged/stable-diffusion"
    assert resolve_packaged("some/folder") == "some/folder"


def test_no_file_shadows_a_module_when_run_as_a_script():
    names = {path.stem for path in (ROOT / "rl").glob("*.py")}
    dependencies = {"torch", "diffusers", "peft", "accelerate", "trl", "transformers", "yaml", "numpy", "tqdm", "PIL"}
    assert not names & (set(sys.stdlib_module_names) | dependencies)


def test_public_names_load_lazily():
    code = "import rl, sys; assert 'torch' not in sys.modules; rl.DDPOConfig; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
    for name in rl.__all__:
        assert getattr(rl, name) is not None
    assert "Trainer" in dir(rl)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = rl.Nothing
