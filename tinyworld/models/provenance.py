"""Writes PROVENANCE.md beside the weights: how they were made and what was measured on them."""

import os
from pathlib import Path


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
    _write_section(path, "", lines)


def write_llava_provenance(notes: dict, path: Path) -> None:
    """Writes the captioner's section of PROVENANCE.md and replaces an older one."""
    lines = [
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
    _write_section(path, "The tiny LLaVA", lines)


def write_flow_provenance(notes: dict, path: Path) -> None:
    """Writes the flow-matching model's section of PROVENANCE.md and replaces an older one."""
    rows = notes["flow_empty_rows"]
    lines = [
        "Stable Diffusion 3's classes without T5, trained on right captions of the seen split, CPU only, seed 0. The",
        "autoencoder is that of the tiny Stable Diffusion above, unchanged. The first text encoder starts from that",
        "model's and is trained along; the rest starts from nothing. No generated picture and no reward was used:",
        "",
        "    python -m tinyworld.pretrain --stages flow flow_measure",
        "",
        *notes.get("flow_remarks", []),
        *_table(
            ("stage", "steps", "minutes"),
            [("flow", notes["flow_steps"], f"{notes['flow_minutes']:.1f}")],
        ),
        "Oracle score (share of facts) of samples, 10 Euler steps, one sample a prompt, `max_sequence_length=1`:",
        "",
        *_table(
            ("guidance", "seen prompts", "held-out prompts"),
            [(g, f"{v['seen']:.3f}", f"{v['held_out']:.3f}") for g, v in notes["flow_samples"].items()],
        ),
        "The number of zero rows in the place of T5's text (`max_sequence_length`) was drawn for every training",
        f"step, 1 to 256. With the pipeline's default, 256, held-out prompts have {rows['held_out']:.3f} at",
        f"guidance {rows['guidance']}.",
    ]
    _write_section(path, "The tiny flow-matching model", lines)


def _write_section(path: Path, title: str, lines: list[str]) -> None:
    """Puts lines under a heading of the second level, "" for the page's start; the other sections stay."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    start, *parts = text.split("\n## ")
    sections = {"": start} | dict(part.split("\n", 1) for part in parts)
    sections[title] = "\n".join(lines if not title else ["", *lines])
    written = "\n\n".join((f"## {name}\n" if name else "") + body.rstrip() for name, body in sections.items())
    partial = path.with_suffix(".partial")
    partial.write_text(written + "\n", encoding="utf-8")
    os.replace(partial, path)


def _table(head: tuple, rows: list[tuple]) -> list[str]:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(str, row)) for row in rows)]
    return [f"| {line} |" for line in lines] + [""]
