"""Writes PROVENANCE.md beside the weights: how they were made and what was measured on them."""

import os
from pathlib import Path

_LLAVA_TITLE = "## The tiny LLaVA"


def write_provenance(notes: dict, path: Path) -> None:
    """Writes PROVENANCE.md from what `tinyworld.pretrain` noted."""
    minutes = {key.removesuffix("_minutes"): value for key, value in notes.items() if key.endswith("_minutes")}
    lines = [
        "# Where these weights come from",
        "",
        "Trained from nothing on made-up scenes of the seen split (`tinyworld/scenes.py`), CPU only, seed 0:",
        "",
        "    python -m tinyworld.pretrain",
        "",
        "Stored as fp16 safetensors. The scenes and the weights are part of this project (Apache-2.0); nothing was",
        "downloaded, no other model was used. Every figure below was measured on the stored weights.",
        "",
        *notes.get("remarks", []),
        *_table(("stage", "minutes"), [(name, f"{value:.1f}") for name, value in minutes.items()]),
        "Autoencoder, 512 scenes:",
        "",
        *_table(
            ("scenes", "PSNR (dB)", "oracle score of reconstructions", "read entirely right"),
            [
                (name, f"{row['psnr']:.1f}", f"{row['oracle']:.3f}", f"{row['right']:.3f}")
                for name, row in notes["autoencoder"].items()
            ],
        ),
        "Oracle score (share of facts) of samples, 10 DDIM steps, eta 1, one sample a prompt:",
        "",
        *_table(
            ("guidance", "seen prompts", "held-out prompts"),
            [(g, f"{v['seen']:.3f}", f"{v['held_out']:.3f}") for g, v in notes["samples"].items()],
        ),
        "Dual encoder: share of pictures whose own caption wins among 100 captions, and against its own caption with",
        "one thing changed (chance 0.01 and 0.50):",
        "",
        *_table(
            ("scenes", "of 100", "one thing changed"),
            [
                (name, f"{notes[key]['of_100']:.3f}", f"{notes[key]['one_wrong']:.3f}")
                for name, key in (("seen", "retrieval_seen"), ("held-out", "retrieval_held_out"))
            ],
        ),
        "HyperAlign against the oracle on 2,000 scenes with right, partly right and wrong prompts (Spearman), and",
        "what the geometry adds to the cosine (standard deviation of the text radius; Spearman of the adapted cosine",
        "with distance, exterior angle and half-aperture: 1 or -1 would make it an ornament):",
        "",
        *_table(
            ("scenes", "reward", "plain cosine", "std of text radius", "distance", "exterior angle", "half-aperture"),
            [(name, *(f"{value:.3f}" for value in row.values())) for name, row in notes["reward"].items()],
        ),
    ]
    kept = path.read_text(encoding="utf-8").partition(f"\n{_LLAVA_TITLE}") if path.exists() else ("", "", "")
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines).rstrip() + "\n" + "".join(kept[1:]), encoding="utf-8")
    os.replace(partial, path)


def write_llava_provenance(notes: dict, path: Path) -> None:
    """Writes the captioner's section at the end of PROVENANCE.md and replaces an older one."""
    before = path.read_text(encoding="utf-8").partition(f"\n{_LLAVA_TITLE}")[0] if path.exists() else ""
    lines = [
        "",
        _LLAVA_TITLE,
        "",
        "Trained from nothing, CPU only, seed 0, on scenes of the seen split, some of them worn or passed through the",
        "autoencoder above; no generated picture, no reward and no other model was used:",
        "",
        "    python -m tinyworld.pretrain --stages llava_eyes llava_words llava llava_yes_no llava_measure",
        "",
        *notes.get("llava_remarks", []),
        *_table(
            ("stage", "steps", "minutes"),
            [(key, notes["llava_steps"][key], f"{notes[f'{key}_minutes']:.1f}") for key in notes["llava_steps"]],
        ),
        "Measured on the stored weights, on unseen scenes; blind: the same questions asked of another scene's picture",
        "(yes and no are equally frequent):",
        "",
        *_table(
            ("scenes", "what", "answers", "right", "blind"),
            [
                (scenes, what, row["count"], f"{row['right']:.3f}", f"{row['blind']:.3f}" if "blind" in row else "")
                for scenes, rows in notes["llava"].items()
                for what, row in rows.items()
            ],
        ),
    ]
    partial = path.with_suffix(".partial")
    partial.write_text(before.rstrip("\n") + "\n" + "\n".join(lines).rstrip() + "\n", encoding="utf-8")
    os.replace(partial, path)


def _table(head: tuple, rows: list[tuple]) -> list[str]:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(str, row)) for row in rows)]
    return [f"| {line} |" for line in lines] + [""]
