import subprocess
import sys

import pytest
import yaml

from rl.config.ddpo_config import DDPOConfig
from rl.config.loading import find_run, load_config, read_yaml, write_yaml


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lora_rank: 4\nrewards: ['a:b=2']\ntrain_learning_rate: 1e-3\nnum_epochs: 7\n")
    return path


def write(tmp_path, text):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    return path


def test_recipe_then_flags(recipe):
    config = load_config(
        DDPOConfig,
        ["--lora_rank", "2", "--train_cfg", "false", "--rewards", "c:d", "e:f=0.5", "--train_step_window", "0", "0.5",
         "--log_with", "none", "--tracker_kwargs", "{wandb: {name: x}}", "--mixed_precision=bf16"],
        default_recipe=recipe,
    )
    assert (config.lora_rank, config.num_epochs, config.train_cfg, config.mixed_precision) == (2, 7, False, "bf16")
    assert config.rewards == ["c:d", "e:f=0.5"]
    assert config.train_step_window == [0.0, 0.5]
    assert config.log_with is None
    assert config.tracker_kwargs == {"wandb": {"name": "x"}}
    assert config.train_learning_rate == 1e-3


def test_repeated_flags_add_up_or_are_refused(recipe, capsys):
    words = ["--rewards", "c:d", "--lora_targets", "to_q", "--rewards", "e:f=0.5", "g:h", "--lora-targets", "to_k"]
    config = load_config(DDPOConfig, words, default_recipe=recipe)
    assert config.rewards == ["c:d", "e:f=0.5", "g:h"] and config.lora_targets == ["to_q", "to_k"]
    assert load_config(DDPOConfig, ["--seed", "3", "--seed=3"]).seed == 3
    for one, two in (("--seed", "--seed"), ("--lora_rank", "--lora-rank"), ("--config", "--config")):
        with pytest.raises(SystemExit) as stop:
            load_config(DDPOConfig, [one, "3", two, "4"])
        assert stop.value.code == 2 and "given twice, as '3' and as '4'" in capsys.readouterr().err


def test_a_flag_may_restore_a_default(recipe):
    assert load_config(DDPOConfig, ["--lora_rank", "16"], default_recipe=recipe).lora_rank == 16


def test_config_file_starts_from_the_dataclass_defaults(recipe, tmp_path):
    other = write(tmp_path, "num_epochs: 3\n")
    config = load_config(DDPOConfig, ["--config", str(other)], default_recipe=recipe)
    assert config == DDPOConfig(num_epochs=3)
    assert load_config(DDPOConfig, [f"--config={other}"], default_recipe=recipe) == config
    assert load_config(DDPOConfig, ["--config", str(write(tmp_path, ""))]) == DDPOConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("env:\n  PATH: x\n", "`env:` block is refused"),
        ("lora_rnak: 4\n", "unknown key 'lora_rnak'. Did you mean 'lora_rank'?"),
        ("zzzzzzzzz: 4\n", "See --help"),
        ("lora_rank: four\n", "lora_rank: expected a whole number, got 'four'"),
        ("train_cfg: 1\n", "train_cfg: expected true or false, got 1"),
        ("- a\n", "expected a mapping of field: value, got list"),
        ("a: [\n", "not valid YAML"),
        ("seed: 1\nlora_rank: 2\nseed: 3\n", "expected each key once but got 'seed' twice"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message, monkeypatch):
    monkeypatch.setenv("PATH", "kept")
    with pytest.raises(ValueError) as caught:
        load_config(DDPOConfig, ["--config", str(write(tmp_path, text))])
    assert message in str(caught.value)
    import os

    assert os.environ["PATH"] == "kept"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lora_ran", "4"], "Unknown flag --lora_ran. Did you mean 'lora_rank'?"),
        (["--lora", "4"], "Unknown flag --lora."),
        (["--loraRank=4"], "Unknown flag --loraRank."),
        (["stray"], "got 'stray' without a flag"),
        (["--lora_rank", "4.5"], "lora_rank: expected a whole number, got '4.5'"),
        (["--train_cfg", "maybe"], "train_cfg: expected true or false, got 'maybe'"),
        (["--train_step_window", "0", "x"], "train_step_window[1]: expected a number, got 'x'"),
    ],
)
def test_bad_flags_are_refused(argv, message):
    with pytest.raises(ValueError) as caught:
        load_config(DDPOConfig, argv)
    assert message in str(caught.value)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_config(DDPOConfig, ["--config", "nowhere.yaml"])


def test_round_trip(tmp_path):
    config = DDPOConfig(rewards=["a:b=2"], log_with=None, tracker_kwargs={"wandb": {"name": "ü"}})
    write_yaml(config, tmp_path / "config.yaml")
    assert DDPOConfig(**read_yaml(tmp_path / "config.yaml", DDPOConfig)) == config
    assert list(yaml.safe_load((tmp_path / "config.yaml").read_text()))[0] == "exp_name"


def test_a_resumed_run_keeps_its_config(tmp_path, recipe):
    run = tmp_path / "run"
    (run / "checkpoints" / "checkpoint_2").mkdir(parents=True)
    write_yaml(DDPOConfig(lora_rank=3, output_dir="elsewhere"), run / "config.yaml")
    for start in (run, run / "checkpoints" / "checkpoint_2"):
        config = load_config(
            DDPOConfig, ["--resume_from", str(start), "--num_epochs", "9"], default_recipe=recipe
        )
        assert (config.lora_rank, config.num_epochs, config.output_dir) == (3, 9, str(run))
    with pytest.raises(FileNotFoundError, match="expected a run folder"):
        find_run(tmp_path)


def test_help_is_grouped_and_quick():
    code = (
        # what TRL's parser brings along is TRL's: torch, up to transformers 5.4
        "import sys, time; start = time.perf_counter()\n"
        "from trl import TrlParser\n"
        "brought = set(sys.modules)\n"
        "from rl.ddpo_train import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'diffusers'} & (set(sys.modules) - brought)\n"
        "assert 'torch' in brought or time.perf_counter() - start < 5\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for words in ("--config FILE", "sampling:", "DDPO:", "rewards and prompts:", "[float; default: 0.0001]",
                  "[no|fp16|bf16; default: no]", "[auto|tensorboard|wandb|trackio; default: auto]",
                  "[true|false; default: true]"):
        assert words in done.stdout, words
