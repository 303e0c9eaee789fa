"""Fuzz targets: untrusted folders with a saved reward, its backbone, a LoRA or a run."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 16
_WIDTH = 8


def safetensors_file(header: bytes) -> bytes:
    """A safetensors file with the given header, valid or not, and as many zero bytes as it declares, up to 64 kB."""
    size = 0
    try:
        for value in json.loads(header).values():
            ends = value.get("data_offsets", []) if isinstance(value, dict) else []
            size = max([size, *(end for end in ends if isinstance(end, int))])
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    return struct.pack("<Q", len(header)) + header + bytes(min(size, _MOST_BYTES))


def header_of(path: Path) -> bytes:
    """The header of a safetensors file."""
    data = path.read_bytes()
    return data[8 : 8 + struct.unpack("<Q", data[:8])[0]]


class RewardHeads:
    """config.json and model.safetensors of a reward. The first byte selects one; the rest is the file or its header."""

    allowed = (ValueError, TypeError, FileNotFoundError)

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import save_file

        from reward.model.config import HyperAlignConfig
        from reward.model.head import HyperAlign

        config = HyperAlignConfig(embed_dim=_WIDTH, adapter_hidden=2, modulation_hidden=2, backbone="local-dir:b")
        self.folder, self.config = folder, config.to_json().encode()
        save_file(HyperAlign(config).state_dict(), folder / "model.safetensors")
        self.weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.bin").write_bytes(b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00truetR.")

    def seeds(self) -> list[bytes]:
        """The valid files, a huge tensor, a tensor of unknown dtype."""
        giant = self.config.replace(b'"embed_dim": 8', b'"embed_dim": 800000000')
        header = header_of(self.folder / "model.safetensors")
        odd = [header.replace(b"F32", kind) for kind in (b"F8_E4M3", b"I64", b"BF16", b"U16", b"F4", b"BOOL")]
        return [b"\x00" + self.config, b"\x00" + giant, b"\x01" + self.weights, *(b"\x02" + h for h in [header, *odd])]

    def run(self, data: bytes) -> None:
        """Load the head as `HyperAlignReward.from_pretrained` does."""
        from reward.model import saving

        kind, content = (data[0] % 3, data[1:]) if data else (0, b"")
        (self.folder / "config.json").write_bytes(content if kind == 0 else self.config)
        weights = {0: lambda _: self.weights, 1: bytes, 2: safetensors_file}[kind](content)
        (self.folder / "model.safetensors").write_bytes(weights)
        config = saving.read_config(self.folder)
        saving.refuse_outside(config.backbone, self.folder)
        saving.load_head(config, self.folder)


class Backbones:
    """A backbone's open_clip_config.json, tokenizer or header of its weights; the reward is loaded from it."""

    allowed = (ValueError, TypeError, FileNotFoundError)
    names = ("open_clip_config.json", "tokenizer_config.json", "tokenizer.json", "open_clip_model.safetensors")

    def __init__(self, folder: Path) -> None:
        import open_clip
        from safetensors.torch import save_file

        from tinyworld import weights_path

        self.folder = folder
        config = json.loads((weights_path("open-clip") / self.names[0]).read_text())
        model = config["model_cfg"]
        model["embed_dim"] = _WIDTH
        model["vision_cfg"] |= {"layers": 1, "width": 8, "head_width": 4, "image_size": 12}
        model["text_cfg"] |= {"layers": 1, "width": 8, "heads": 2}
        for name in self.names[1:3]:
            shutil.copyfile(weights_path("open-clip") / name, folder / name)
        (folder / self.names[0]).write_text(json.dumps(config))
        save_file(open_clip.model.CLIP(**model).state_dict(), folder / self.names[3])
        self.own = {name: (folder / name).read_bytes() for name in self.names}
        for name in ("open_clip_pytorch_model.bin", "evil.py"):
            (folder / name).write_bytes(b"raise SystemExit('run')")

    def seeds(self) -> list[bytes]:
        """The valid files, and files that ask to run code."""
        config = self.own[self.names[0]]
        evil = json.loads(config)
        evil["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
        mapped = b'{"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", null]}}'
        giant = config.replace(b'"width": 8', b'"width": 8000000').replace(b'"layers": 1', b'"layers": 100000000')
        found = [bytes([place]) + self.own[name] for place, name in enumerate(self.names[:3])]
        found += [b"\x03" + header_of(self.folder / self.names[3])]
        return found + [b"\x00" + json.dumps(evil).encode(), b"\x01" + mapped, b"\x00" + giant]

    def run(self, data: bytes) -> None:
        """Load the backbone, encode a prompt."""
        from reward.backbone.towers import Backbone

        kind, content = (data[0] % 4, data[1:]) if data else (0, b"")
        for place, name in enumerate(self.names):
            own = safetensors_file(content) if place == 3 else content
            (self.folder / name).write_bytes(own if place == kind else self.own[name])
        Backbone(f"local-dir:{self.folder}")


class Loras:
    """A run's LoRA, its config.yaml, summary.json, evaluation.json or metrics.csv, exported for PEFT with its card."""

    allowed = (ValueError, FileNotFoundError)
    names = ("pytorch_lora_weights.safetensors", "config.yaml", "summary.json", "evaluation.json", "metrics.csv")

    def __init__(self, folder: Path) -> None:
        import torch
        from PIL import Image
        from safetensors.torch import save_file

        self.run_folder, self.output = folder / "run", folder / "exports" / "mine"
        (self.run_folder / "samples").mkdir(parents=True)
        self.output.parent.mkdir()
        Image.new("RGB", (2, 2)).save(self.run_folder / "samples" / "epoch_1.png")
        adapter = {"unet.r": 2, "unet.lora_alpha": 2, "unet.target_modules": ["to_q"]}
        layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
        tensors = {f"{layer}.lora_A.weight": torch.zeros(2, 4), f"{layer}.lora_B.weight": torch.zeros(4, 2)}
        metadata = {"lora_adapter_metadata": json.dumps(adapter), "format": "pt"}
        save_file(tensors, self.run_folder / self.names[0], metadata=metadata)
        example = {"prompt": "a | ring", "seed": 1, "base": "samples/epoch_1.png", "lora": "samples/epoch_1.png"}
        texts = (
            "model: some/where\nrewards: [a:b=1]\nprompts: p.txt\nema_decay: 0.0\n",
            json.dumps({"epochs": 2, "reward_base": 0.1, "reward_lora": 0.2}),
            json.dumps({"examples": [example]}), "step,optimizer_steps\n1,2\n2,2\n",
        )  # fmt: skip
        for name, text in zip(self.names[1:], texts, strict=True):
            (self.run_folder / name).write_text(text)
        self.own = {name: (self.run_folder / name).read_bytes() for name in self.names}

    def seeds(self) -> list[bytes]:
        """The valid files, and paths that point outside the folder."""
        found = [bytes([place]) + self.own[name] for place, name in enumerate(self.names) if place]
        header = header_of(self.run_folder / self.names[0])
        found += [b"\x00" + header, b"\x00" + header.replace(b'\\"unet.r\\": 2', b'\\"unet.r\\": 2000000000')]
        for name in (b"../../../out.png", b"/tmp/out.png", b"samples/../../x.png"):
            found.append(b"\x03" + self.own[self.names[3]].replace(b"samples/epoch_1.png", name))
        return found

    def run(self, data: bytes) -> None:
        """Export it."""
        from rl.lora.export import export_lora

        kind, content = (data[0] % 5, data[1:]) if data else (0, b"")
        for place, name in enumerate(self.names):
            mine = safetensors_file(content) if place == 0 else content
            (self.run_folder / name).write_bytes(mine if place == kind else self.own[name])
        shutil.rmtree(self.output, ignore_errors=True)
        export_lora(self.run_folder, "peft", self.output, license="apache-2.0", resolve=lambda name: "/nowhere")


class Runs:
    """The files of a run folder that its report, a resumed run and the caption check read."""

    allowed = (ValueError, FileNotFoundError)
    names = ("metrics.csv", "evaluation.json", "summary.json", "hacking_panel.json", "config.yaml",
             "checkpoints/checkpoint_1/state.json", "checkpoints/checkpoint_1/training_state.safetensors")  # fmt: skip

    def __init__(self, folder: Path) -> None:
        import torch
        from PIL import Image

        from rl.runs.checkpoints import save_checkpoint

        self.folder = folder / "run"
        (self.folder / "samples" / "evaluation").mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(self.folder / "samples" / "evaluation" / "base_000.png")
        tensors, state = {"optimizer.0.step": torch.ones(())}, {"epoch": 1, "optimizer": {}}
        save_checkpoint(self.folder, 1, tensors=tensors, state=state, write_rest=lambda folder: None, keep=1)
        for name, value in self._sound().items():
            (self.folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
        self.own = {name: (self.folder / name).read_bytes() for name in self.names}
        self.last = self.names[0]

    def _sound(self) -> dict[str, Any]:
        picture = "samples/evaluation/base_000.png"
        example = {"prompt": "<b>x</b>", "seed": 1, "base": picture, "lora": picture}
        example |= {f"{name}_{side}": 0.5 for name in ("reward", "oracle") for side in ("base", "lora")}
        change = {"metric": "reward", "base": 0.1, "now": 0.2, "change": 0.1, "interval": [0.0, 0.2]}
        look = {"epoch": 2, "changes": {"reward": change, "oracle": change | {"metric": "oracle"}},
                "suspicious": ["oracle"], "alarming": ["oracle"]}  # fmt: skip
        return {
            "metrics.csv": "step,reward_mean,reward_std,eval/x\n1,0.1,0.2,\n2,0.3,0.2,nan\n3,1e308,-1e308,1\n",
            "evaluation.json": {
                "examples": [example], "guidance_base": 1.0, "lora_scales": [{"scale": 0.5, "reward": 0.1}],
                "sweep": [{"model": "base", "guidance": 1.0, "reward": 0.1}],
            },
            "summary.json": {"oracle_base": 0.1, "oracle_lora": 0.2, "oracle_gain_ci": [0.0, 0.1], "n_prompts": 3},
            "hacking_panel.json": {
                "level": 0.99, "num_prompts": 3, "group_size": 2, "held_out": ["oracle"],
                "looks": [look, look | {"epoch": 4}],
            },
            "config.yaml": "model: x/y\nrewards: [a:b=1]\neval_rewards: [c:oracle]\n",
        }  # fmt: skip

    def seeds(self) -> list[bytes]:
        """The valid files, files with markup in every text, and extreme numbers."""
        found = [bytes([place]) + self.own[name] for place, name in enumerate(self.names[:-1])]
        found.append(b"\x06" + header_of(self.folder / self.names[-1]))
        for place, name in enumerate(self.names[1:5], start=1):
            text = self.own[name]
            found.append(bytes([place]) + text.replace(b"oracle", b"<script>x</script>").replace(b": 3", b': "<i>"'))
            found.append(bytes([place]) + text.replace(b"0.2", b"1e308").replace(b"0.1", b"-1e308"))
            found.append(bytes([place]) + text.replace(b"samples/", b"../../samples/").replace(b"0.5", b"NaN"))
        return found

    def run(self, data: bytes) -> None:
        """Make the report, load the checkpoint and read the caption check's rows, with one file replaced."""
        from attention_refine.caption_check.run import find_run_rows
        from rl.report.page import write_report
        from rl.runs.checkpoints import find_checkpoint, load_checkpoint

        (self.folder / self.last).write_bytes(self.own[self.last])
        kind, content = (data[0] % 7, data[1:]) if data else (0, b"")
        self.last = self.names[kind]
        (self.folder / self.last).write_bytes(safetensors_file(content) if kind == 6 else content)
        if kind >= 5:
            load_checkpoint(find_checkpoint(self.folder))
            return
        html = write_report(self.folder).read_text(encoding="utf-8")
        if "<script" in html or "<i>" in html:
            raise AssertionError("the report has elements that are not its own")
        if kind == 1:
            find_run_rows(self.folder)
