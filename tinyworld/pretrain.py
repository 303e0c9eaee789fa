"""Trains the tiny world's models from scratch: ``python -m tinyworld.pretrain [--stages …]``.

The stages run in order. Each continues from its last checkpoint; a finished stage is not run again. Weights are saved
as fp16.
"""

import json
import os
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from reward import HyperAlignReward
from reward.cli.flags import ArgumentParser
from tinyworld.generated import generated_pairs
from tinyworld.models.dual_encoder import (
    build_dual_encoder,
    load_dual_encoder,
    measure_retrieval,
    save_dual_encoder,
    train_dual_encoder,
    train_on_ratings,
)
from tinyworld.models.flow import (
    MOST_EMPTY_ROWS,
    build_flow_pipeline,
    build_text_encoders,
    build_transformer,
    load_flow_pipeline,
    measure_flow_samples,
    train_flow,
)
from tinyworld.models.hyperalign_head import measure_reward, rated_pairs, train_head
from tinyworld.models.llava import build_llava, save_llava, train_eyes, train_llava
from tinyworld.models.llava_measure import measure_llava
from tinyworld.models.provenance import write_flow_provenance, write_llava_provenance, write_provenance
from tinyworld.models.stable_diffusion import (
    build_autoencoder,
    build_pipeline,
    build_text_encoder,
    build_unet,
    measure_autoencoder,
    measure_samples,
    save_pipeline,
    train_autoencoder,
    train_decoder,
    train_denoiser,
)
from tinyworld.scenes import heldout_prompts, train_prompts

SEED = 0
STEPS = {"autoencoder": 2000, "denoiser": 7000, "dual_encoder": 2500, "decoder": 3000, "ratings": 1000}
STEPS |= {"flow": 6000}
STEPS |= {"llava_eyes": 800, "llava_words": 400, "llava": 3600, "llava_yes_no": 4000}
STAGES = ("autoencoder", "denoiser", "decoder", "dual_encoder", "ratings", "head", "measure")
STAGES += ("llava_eyes", "llava_words", "llava", "llava_yes_no", "llava_measure", "flow", "flow_measure")
GUIDANCES = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
FLOW_GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0)
_POOL = 60_000  # scenes in the denoiser's training set
_RATED = 9_216  # generated pictures with a synthetic score
_RATED_SCENES = 8_000  # scenes with a synthetic score, for the head
_MEASURED = 2_000  # pairs of a picture and a prompt, for the measurement
_ASKED = 300  # scenes to caption, and questions of each kind, for the measurement


class Pretraining:
    """The training stages. They pass models and data to each other through a work folder.

    Args:
        work_dir: folder for checkpoints and intermediate models.
        weights_dir: folder for the finished models.
    """

    def __init__(self, work_dir: Path, weights_dir: Path):
        self.work, self.weights = work_dir, weights_dir
        self.notes_file = work_dir / "notes.json"

    def run(self, stages: list[str]) -> None:
        """Runs the stages in the given order and skips those that are done."""
        for stage in stages:
            done = self.work / f"{stage}.done"
            if done.exists():
                print(f"{stage}: already done ({done})")
                continue
            started = time.perf_counter()
            minutes = getattr(self, stage)()
            self.note(f"{stage}_minutes", round(minutes or (time.perf_counter() - started) / 60, 1))
            done.touch()

    def note(self, key: str, value) -> None:
        """Saves a measured value for PROVENANCE.md."""
        notes = json.loads(self.notes_file.read_text()) if self.notes_file.exists() else {}
        notes[key] = value
        partial = self.notes_file.with_suffix(".partial")
        partial.write_text(json.dumps(notes, indent=2))
        os.replace(partial, self.notes_file)

    def autoencoder(self) -> float:
        torch.manual_seed(SEED)
        vae = build_autoencoder()
        minutes = train_autoencoder(vae, self.work, STEPS["autoencoder"], SEED)
        vae.save_pretrained(self.work / "autoencoder")
        return minutes

    def denoiser(self) -> float:
        torch.manual_seed(SEED)
        pipeline = build_pipeline(self._vae(), build_unet(), build_text_encoder())
        minutes = train_denoiser(pipeline, self.work, STEPS["denoiser"], SEED, _POOL)
        pipeline.save_pretrained(self.work / "denoiser")
        return minutes

    def decoder(self) -> float:
        """Trains the decoder further. The denoiser's latents stay valid, because the encoder does not change."""
        vae = self._vae()
        minutes = train_decoder(vae, self.work, STEPS["decoder"], SEED + 1)
        vae.save_pretrained(self.work / "decoder")
        return minutes

    def dual_encoder(self) -> float:
        torch.manual_seed(SEED)
        model = build_dual_encoder()
        minutes = train_dual_encoder(model, self.work, STEPS["dual_encoder"], SEED)
        save_dual_encoder(model, self.work / "open-clip")
        return minutes

    def ratings(self) -> float:
        """Trains the dual encoder on pictures of the finished generator and their synthetic scores."""
        pipeline = StableDiffusionPipeline.from_pretrained(self.work / "denoiser", safety_checker=None)
        pipeline.vae = self._vae("decoder")
        save_pipeline(pipeline, self.weights / "stable-diffusion")
        pictures, texts, scores, index = generated_pairs(self._pipeline(), _RATED, SEED + 1)
        model = load_dual_encoder(self.work / "open-clip")
        minutes = train_on_ratings(model, (pictures, texts, scores), self.work, STEPS["ratings"], SEED)
        save_dual_encoder(model, self.weights / "open-clip")
        save_file({"pictures": pictures, "scores": scores, "index": index}, self.work / "rated.safetensors")
        (self.work / "rated.json").write_text(json.dumps(texts))
        for name, held_out in (("seen", False), ("held_out", True)):
            self.note(f"retrieval_{name}", measure_retrieval(model.eval(), held_out))
        return minutes

    def head(self) -> None:
        rated = load_file(self.work / "rated.safetensors")
        texts = json.loads((self.work / "rated.json").read_text())
        generated = (rated["pictures"], texts, rated["scores"], rated["index"])
        encoder, folder = self.weights / "open-clip", self.weights / "hyperalign"
        train_head(encoder, self._vae("decoder"), generated, folder, SEED, _RATED_SCENES)

    def measure(self) -> None:
        """Measures, on the saved weights, every number of PROVENANCE.md and writes that file."""
        pipeline = self._pipeline()
        self.note("autoencoder", {k: measure_autoencoder(pipeline.vae, 512, k == "held_out") for k in _SPLITS})
        seen, unseen = train_prompts()[::2], heldout_prompts()
        self.note(
            "samples",
            {g: {"seen": measure_samples(pipeline, seen, g), "held_out": measure_samples(pipeline, unseen, g)}
             for g in GUIDANCES},
        )  # fmt: skip
        reward = HyperAlignReward.from_pretrained(self.weights / "hyperalign")
        scored = {k: rated_pairs(pipeline.vae, 99, _MEASURED, k == "held_out", noise=0.0) for k in _SPLITS}
        drawn, texts, truth, index = generated_pairs(pipeline, _MEASURED // 2, 99, held_out=True)
        scored["held_out, generated"] = (drawn[index], texts, truth)
        self.note("reward", {k: measure_reward(reward, *pairs) for k, pairs in scored.items()})
        write_provenance(json.loads(self.notes_file.read_text()), self.weights / "PROVENANCE.md")

    def llava_eyes(self) -> float:
        torch.manual_seed(SEED)
        model = build_llava()
        minutes = train_eyes(model, self._shipped_vae(), self.work, STEPS["llava_eyes"], SEED)
        model.save_pretrained(self.work / "llava_eyes")
        return minutes

    def llava_words(self) -> float:
        model = self._captioner("llava_eyes")
        minutes = train_llava(model, self._shipped_vae(), self.work, STEPS["llava_words"], SEED, "llava_words")
        model.save_pretrained(self.work / "llava_words")
        return minutes

    def llava(self) -> float:
        """Trains the captioner. It uses no other model except the autoencoder, which reconstructs some pictures."""
        model = self._captioner("llava_words")
        minutes = train_llava(model, self._shipped_vae(), self.work, STEPS["llava"], SEED)
        model.save_pretrained(self.work / "llava")
        return minutes

    def llava_yes_no(self) -> float:
        model = self._captioner("llava")
        minutes = train_llava(model, self._shipped_vae(), self.work, STEPS["llava_yes_no"], SEED + 1, "llava_yes_no")
        save_llava(model, self.weights / "llava")
        return minutes

    def llava_measure(self) -> None:
        """Measures the saved captioner and writes its section of PROVENANCE.md."""
        folder = self.weights / "llava"
        model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
        processor = AutoProcessor.from_pretrained(folder)
        self.note("llava", {k: measure_llava(model, processor, _ASKED, k == "held_out", 99) for k in _SPLITS})
        self.note("llava_steps", {key: STEPS[key] for key in STEPS if key.startswith("llava")})
        write_llava_provenance(json.loads(self.notes_file.read_text()), self.weights / "PROVENANCE.md")

    def flow(self) -> float:
        """Trains the flow-matching model. Its autoencoder and the start of its text encoder are Stable Diffusion's."""
        torch.manual_seed(SEED)
        shipped = self._pipeline()
        encoders = build_text_encoders(shipped.text_encoder)
        pipeline = build_flow_pipeline(shipped.vae, build_transformer(), encoders)
        minutes = train_flow(pipeline, self.work, STEPS["flow"], SEED, _POOL)
        save_pipeline(pipeline, self.weights / "flow")
        return minutes

    def flow_measure(self) -> None:
        """Measures the saved flow-matching model and writes its section of PROVENANCE.md."""
        pipeline = load_flow_pipeline(self.weights / "flow")
        prompts = {"seen": train_prompts()[::2], "held_out": heldout_prompts()}
        measured = {g: {k: measure_flow_samples(pipeline, prompts[k], g) for k in _SPLITS} for g in FLOW_GUIDANCES}
        self.note("flow_samples", measured)
        best = max(measured, key=lambda guidance: measured[guidance]["held_out"])
        default = measure_flow_samples(pipeline, prompts["held_out"], best, MOST_EMPTY_ROWS)
        self.note("flow_empty_rows", {"guidance": best, "held_out": default})
        self.note("flow_steps", STEPS["flow"])
        write_flow_provenance(json.loads(self.notes_file.read_text()), self.weights / "PROVENANCE.md")

    def _captioner(self, stage: str) -> LlavaForConditionalGeneration:
        return LlavaForConditionalGeneration.from_pretrained(self.work / stage, dtype=torch.float32).train()

    def _shipped_vae(self):
        return self._pipeline().vae.eval().requires_grad_(False)

    def _pipeline(self) -> StableDiffusionPipeline:
        folder = self.weights / "stable-diffusion"
        return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32)

    def _vae(self, stage: str = "autoencoder"):
        return AutoencoderKL.from_pretrained(self.work / stage).eval().requires_grad_(False)


_SPLITS = ("seen", "held_out")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=Path("runs/pretrain"), help="folder for checkpoints")
    parser.add_argument("--weights-dir", type=Path, default=Path(__file__).resolve().parent / "weights")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="stages, in order")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; default %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    Pretraining(arguments.work_dir, arguments.weights_dir).run(arguments.stages)


if __name__ == "__main__":
    main()
