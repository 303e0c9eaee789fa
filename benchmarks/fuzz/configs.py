"""Fuzz target: YAML and JSON configs of fine-tuning, of reward training and of a saved reward."""

import dataclasses
from pathlib import Path
from typing import Any

_YAML = (
    "a: &a [1, *a]", "x: &x {y: [*x, *x]}", "model: !!python/object/apply:os.system ['true']", "env: {HOME: x}",
    "num_epochs: !!int ''", "seed: 0x" + "f" * 400, "train_learning_rate: 1e-4", "rewards: [" * 60, "? [a]: b",
    "tracker_project_name: ../../x", "logdir: ../up", "eval_guidance_scales: [1, .inf, .nan]", "seed: 2001-13-45",
    "tracker_kwargs: {a: {b: [1, 2, {c: null}]}}", "1:1:1:1:1: 3", "%YAML 9.9\n---\n!!binary x", "\ufeffseed: 1",
)  # fmt: skip


class Configs:
    """Input: the first byte selects the reader, the rest is the file."""

    allowed = (ValueError, TypeError)

    def __init__(self, folder: Path) -> None:
        from reward.model.config import HyperAlignConfig
        from rl.config.ddpo_config import DDPOConfig
        from rl.config.direct_config import DirectConfig

        self.path = folder / "recipe.yaml"
        self.classes = (DDPOConfig, DirectConfig)
        self.saved = HyperAlignConfig

    def seeds(self) -> list[bytes]:
        """The recipes of the repository, and unusual YAML."""
        root = Path(__file__).parents[2]
        found = [b"\x00" + path.read_bytes() for path in sorted((root / "configs").glob("d*.yaml"))]
        found += [b"\x02" + path.read_bytes() for path in sorted((root / "configs").glob("hyperalign*.yaml"))]
        found.append(b"\x03" + (root / "tinyworld/weights/hyperalign/config.json").read_bytes())
        return found + [bytes([kind]) + text.encode() for text in _YAML for kind in range(4)]

    def run(self, data: bytes) -> None:
        """Read the file as the commands do. If that works, write it and read it again."""
        from reward.training.recipe import load_training_config, write_training_config
        from rl.config.loading import read_yaml, write_yaml

        kind, content = (data[0] % 4, data[1:]) if data else (0, b"")
        self.path.write_bytes(content)
        if kind == 3:
            config = self.saved.from_json(content.decode("utf-8"))
            again = self.saved.from_json(config.to_json())
        elif kind == 2:
            config = load_training_config(self.path)
            write_training_config(config, self.path)
            again = load_training_config(self.path)
        else:
            config = self.classes[kind](**read_yaml(self.path, self.classes[kind]))
            write_yaml(config, self.path)
            again = self.classes[kind](**read_yaml(self.path, self.classes[kind]))
        if _shown(again) != _shown(config):
            raise AssertionError(f"{config} became {again}")


def _shown(config: Any) -> str:
    """Text for comparison: in the tracker's options NaN is not equal to itself, and YAML turns pairs into lists."""
    return repr(dataclasses.asdict(config)).translate(str.maketrans("()", "[]"))
