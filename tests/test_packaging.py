"""The wheel holds what a user needs and nothing else: built, installed elsewhere, used from there."""

import configparser
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.lowest_pins import lowest_pins
from tests.repository_copy import copy_repository

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"attention_refine", "reward", "rl", "tinyworld"}


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the sdist, and of the wheel that was built from it and not from the repo."""
    # From a copy: a build leaves build/ behind, and the next one would pack what was deleted since.
    source = tmp_path_factory.mktemp("source") / "repo"
    copy_repository(source)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "out", ".", cwd=source)
    return source / "out"


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    run(*pip, str(wheel), cwd=target)
    return target


def python(code: str, installed: Path, tmp_path: Path) -> str:
    """What `code` prints, run away from the repo with the installed folder first on the path."""
    # An editable install of the repo is on the path too: make sure that it is not what was imported.
    guard = f"""
    import reward, rl, tinyworld
    assert all(package.__file__.startswith({str(installed)!r}) for package in (reward, rl, tinyworld))
    """
    return run(sys.executable, "-c", textwrap.dedent(guard) + textwrap.dedent(code), cwd=tmp_path, path=installed)


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert top - PACKAGES == {next(name for name in top if name.endswith(".dist-info"))}
    assert not [name for name in names if name.endswith((".pyc", ".tmp", ".pt", ".bin", ".pkl"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_no_more_than_the_wheel_is_made_of(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    makings = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "hyperalign.egg-info", "pyproject.toml", "setup.cfg"}
    assert top == PACKAGES | makings


def test_every_source_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    kept = {".py", ".yaml", ".typed", ".json", ".safetensors", ".txt", ".md", ".html", ".css", ".svg", ".jinja"}
    present = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in kept and not any(part.startswith(".") for part in path.parts)
    }
    assert present and present <= packed, sorted(present - packed)


def test_public_names_import_from_the_installed_wheel(installed, tmp_path):
    code = """
    for package in (reward, rl):
        for name in package.__all__:
            getattr(package, name)
    from reward import HyperAlignReward
    print(HyperAlignReward.__name__)
    """
    assert python(code, installed, tmp_path) == "HyperAlignReward\n"


def test_console_scripts_resolve_and_show_help(installed, tmp_path):
    (info,) = installed.glob("*.dist-info")
    parsed = configparser.ConfigParser()
    parsed.read(info / "entry_points.txt")
    scripts = dict(parsed["console_scripts"])
    assert scripts == {
        "hyperalign": "reward.cli.main:main",
        "hyperalign-caption-check": "attention_refine.caption_check.cli:main",
        "hyperalign-ddpo": "rl.ddpo_train:main",
        "hyperalign-direct": "rl.direct_train:main",
        "hyperalign-dpo": "rl.dpo_train:main",
        "hyperalign-matching": "rl.matching_train:main",
        "hyperalign-nft": "rl.nft_train:main",
        "hyperalign-export-lora": "rl.export_lora:main",
    }
    for target in scripts.values():
        module, function = target.split(":")
        code = f"import sys, {module}; sys.argv = ['x', '--help']; {module}.{function}()"
        assert "usage" in python(code, installed, tmp_path).lower()


def test_the_recipe_and_the_weights_are_there(installed, tmp_path):
    code = """
    import pathlib, yaml
    from tinyworld import weights_path
    home = pathlib.Path(tinyworld.__file__).parent
    for recipe, model in (("ddpo", "stable-diffusion"), ("direct", "stable-diffusion"), ("flow_nft", "flow")):
        assert yaml.safe_load((home / f"{recipe}.yaml").read_text())["model"] == f"tinyworld:{model}"
    assert (home / "weights" / "PROVENANCE.md").is_file()
    for name in ("stable-diffusion", "open-clip", "hyperalign", "llava", "flow"):
        folder = weights_path(name)
        assert folder.is_relative_to(home) and list(folder.rglob("*.safetensors")), name
    print("there")
    """
    assert python(code, installed, tmp_path) == "there\n"


def test_the_built_in_reward_scores_from_the_installed_wheel(installed, tmp_path):
    code = """
    import PIL.Image, reward.cli.main
    PIL.Image.new("RGB", (64, 64), "red").save("a.png")
    raise SystemExit(reward.cli.main.main(["score", "a.png", "--prompt", "a red circle", "--model", "tinyworld"]))
    """
    header, row = python(code, installed, tmp_path).splitlines()
    assert header == "path,prompt,score" and row.startswith("a.png,a red circle,")


def test_a_lora_is_trained_and_exported_from_the_installed_wheel(installed, tmp_path):
    code = """
    from rl import ddpo_train, export_lora
    import sys
    small = {"output_dir": "run", "num_epochs": 1, "sample_batch_size": 8, "sample_num_batches_per_epoch": 1,
             "train_batch_size": 8, "eval_at_end": "false", "log_with": "none"}
    sys.argv = ["hyperalign-ddpo", *(part for name, value in small.items() for part in (f"--{name}", str(value)))]
    ddpo_train.main()
    for kind in ("diffusers", "peft", "kohya"):
        export_lora.main(["run", "--format", kind, "--license", "apache-2.0", "--output", kind])
    """
    python(code, installed, tmp_path)
    for kind, name in (("diffusers", "pytorch_lora_weights"), ("peft", "adapter_model"), ("kohya", "*")):
        assert list((tmp_path / kind).glob(f"{name}.safetensors")) and (tmp_path / kind / "README.md").is_file()


def test_the_lowest_versions_are_those_that_setup_cfg_states(tmp_path):
    setup = tmp_path / "setup.cfg"
    text = (
        "[metadata]\nname = own\n[options]\ninstall_requires =\n    a>=1.2\n    b_c>=3\n"
        "[options.extras_require]\none =\n    a>=1.2\n    d>=0.4\nall =\n    own[one]\n"
    )
    setup.write_text(text)
    assert lowest_pins(setup) == ["a==1.2", "b_c==3", "d==0.4"]
    for line in ("d>=0.5", "e", "e>=1,<2", "e==1"):
        setup.write_text(text.replace("d>=0.4", f"d>=0.4\n    {line}"))
        with pytest.raises(ValueError, match="setup.cfg: expected"):
            lowest_pins(setup)
    assert "torch==2.6" in lowest_pins(ROOT / "setup.cfg")


def test_dependencies_are_pinned_without_a_place():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    assert pinned["torch"] == "2.14.1" and pinned["torchvision"] == "0.29.1"
    assert not [line for line in lines if "/" in line or "@" in line]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].split()
    normal = {name.lower().replace("_", "-") for name in pinned}
    missing = [want for want in wanted if want.split(">=")[0].lower().replace("_", "-") not in normal]
    assert not missing, "every core dependency has a tested version"
