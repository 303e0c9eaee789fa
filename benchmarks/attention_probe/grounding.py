"""Measure how much contrastive attention is on the object in the question, with the tiny world's exact masks.

python benchmarks/attention_probe/grounding.py

Each picture has two objects that differ in colour and shape, and the question is about one of them. Reported is the
share of contrastive attention (IA) on that object's pixels. For comparison: the same share for the attention at the
post layer and at every other layer, and the share of the picture that the object covers, which is what uniform
attention would give. A token's attention is spread evenly over its patch. Writes grounding.csv and grounding.png.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine.contrastive.capture import AttentionCapture  # noqa: E402
from attention_refine.contrastive.contrast import hellinger, image_attention  # noqa: E402
from attention_refine.vlm.loading import load_model  # noqa: E402
from attention_refine.vqa.answering import Answerer, batches  # noqa: E402
from attention_refine.vqa.layouts import VQAQuestion  # noqa: E402
from attention_refine.vqa.table import image_bootstrap  # noqa: E402
from benchmarks.attention_probe.asked import held_out_scene, save  # noqa: E402
from benchmarks.attention_probe.modes import layer_config  # noqa: E402
from benchmarks.results_file import write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.explanation.cone_picture import new_figure, save_figure  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.scenes import SIZE, SceneObject, shape_distance  # noqa: E402

HERE = Path(__file__).parent
COLUMNS = (
    "layers", "map", "questions", "object", "object_low", "object_high", "other", "ground", "lift", "over_other",
    "over_other_low", "over_other_high", "over_post", "over_post_low", "over_post_high",
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="LLaVA folder; default: the tiny world's")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE, help="folder with proposal.json, and for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load_model(arguments.model or str(weights_path("llava")), "cpu")
    with tempfile.TemporaryDirectory() as folder:
        questions, scenes = ask_about_one_of_two(Path(folder), arguments.questions, arguments.seed)
        attention = image_maps(Answerer(model, processor, max_new_tokens=1), questions)
    side = int(round(attention.shape[2] ** 0.5))
    asked, other = (np.stack([coverage(scene[i], side) for scene in scenes]) for i in range(2))
    by_layer = shares(attention, asked)
    rows = []
    for layers in ("proposed", "preset"):
        config = layer_config(layers, model, arguments.output)
        maps = {"IA": contrast(attention, config), "post layer": attention[:, config.post_layer]}
        maps["candidate chosen"] = chosen(attention, config)
        rows += [{"layers": layers} | row for row in described(maps, asked, other)]
    every = {f"layer {layer}": attention[:, layer] for layer in range(attention.shape[1])}
    rows += [{"layers": "each"} | row for row in described(every, asked, other)]
    write_rows(arguments.output / "grounding.csv", COLUMNS, rows)
    draw(by_layer, rows, float(asked.sum(1).mean()) / side**2, arguments.output / "grounding.png")
    for row in rows:
        print({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()})


def ask_about_one_of_two(folder: Path, count: int, seed: int) -> tuple[list[VQAQuestion], list[list[SceneObject]]]:
    """Questions in three alternating forms, and the scenes with the object of the question first."""
    rng = np.random.default_rng(seed)
    questions, scenes = [], []
    while len(questions) < count:
        objects, picture = held_out_scene(rng)
        one, two = objects if len(objects) == 2 else (objects[0], objects[0])
        if one.kind.colour == two.kind.colour or one.kind.shape == two.kind.shape:
            continue
        asked, other = (one, two) if rng.random() < 0.5 else (two, one)
        text, answer = (
            (f"Is there a {asked.kind} in the picture?", "yes"),
            (f"What colour is the {asked.kind.shape}?", asked.kind.colour),
            (f"What shape is the {asked.kind.colour} object?", asked.kind.shape),
        )[len(questions) % 3]
        path = folder / f"{len(questions):04d}.png"
        save(path, picture)
        questions.append(VQAQuestion(path.stem, path, text, (answer,)))
        scenes.append([asked, other])
    return questions, scenes


@torch.no_grad()
def image_maps(answerer: Answerer, questions: list[VQAQuestion]) -> np.ndarray:
    """Attention (N, L, tokens) of the last prompt token over the image tokens at every layer; sums to 1."""
    found = []
    with AttentionCapture(answerer.model) as capture:
        for batch in batches(questions, 50):
            answerer.model(**answerer.inputs(batch), use_cache=False)
            rows = torch.stack([capture.rows[layer] for layer in sorted(capture.rows)], dim=1)
            image = capture.prompt.is_image
            own = image_attention(rows, image[:, None]).transpose(1, 2)[image]
            found.append(own.view(len(batch), -1, rows.shape[1]))
    return torch.cat(found).transpose(1, 2).double().numpy()


def contrast(attention: np.ndarray, config) -> np.ndarray:
    """IA = |A(post) - A(chosen candidate)|, (N, tokens), scaled to sum to 1."""
    ia = np.abs(attention[:, config.post_layer] - chosen(attention, config))
    return ia / ia.sum(1, keepdims=True)


def chosen(attention: np.ndarray, config) -> np.ndarray:
    """The attention (N, tokens) at the candidate layer that is farthest from the post layer."""
    maps = torch.from_numpy(attention)
    candidates = maps[:, list(config.candidate_layers)]
    best = hellinger(candidates, maps[:, config.post_layer, None]).argmax(1)
    return candidates[torch.arange(len(maps)), best].numpy()


def coverage(item: SceneObject, side: int) -> np.ndarray:
    """Share (side * side,) of each patch that the object covers, by the renderer's own outline."""
    axis = np.arange(SIZE) + 0.5
    dx, dy = axis[None, :] - item.x * SIZE, axis[:, None] - item.y * SIZE
    inside = np.clip(0.5 - shape_distance(item.kind.shape, dx, dy, item.radius * SIZE), 0, 1)
    return inside.reshape(side, SIZE // side, side, SIZE // side).mean((1, 3)).ravel()


def shares(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share (N, ...) of each map's mass that is on the object.

    Args:
        maps: (N, ..., tokens), each sums to 1.
        mask: (N, tokens), share of each patch that the object covers.
    """
    return np.einsum("n...t,nt->n...", maps, mask)


def described(maps: dict[str, np.ndarray], asked: np.ndarray, other: np.ndarray) -> list[dict]:
    """A row per map: its share on the object of the question, on the other one, and its gain over the post layer."""
    names = [str(i) for i in range(len(asked))]
    area = float(asked.mean())
    rows = []
    for name, values in maps.items():
        on_object, on_other = 100 * shares(values, asked), 100 * shares(values, other)
        low, high = _interval(on_object, names)
        row = {
            "map": name, "questions": len(asked), "object": on_object.mean(), "object_low": low, "object_high": high,
            "other": on_other.mean(), "ground": 100 - on_object.mean() - on_other.mean(),
            "lift": on_object.mean() / (100 * area),
        }  # fmt: skip
        gaps = {"over_other": on_object - on_other}
        if name == "IA":
            gaps["over_post"] = on_object - 100 * shares(maps["post layer"], asked)
        for gap, values in gaps.items():
            low, high = _interval(values, names)
            row |= {gap: values.mean(), f"{gap}_low": low, f"{gap}_high": high}
        rows.append({key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()})
    return rows


def _interval(values: np.ndarray, names: list[str]) -> tuple[float, float]:
    low, high = np.quantile(image_bootstrap(values[:, None], names), (0.025, 0.975))
    return float(low), float(high)


def draw(by_layer: np.ndarray, rows: list[dict], area: float, path: Path) -> None:
    """Draw the share on the object of the question at every layer, and lines for IA and for uniform attention."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    names = [str(i) for i in range(len(by_layer))]
    low, high = np.quantile(image_bootstrap(100 * by_layer, names), (0.025, 0.975), axis=0)
    layers = np.arange(by_layer.shape[1])
    axes.fill_between(layers, low, high, color="#1f5f8b", alpha=0.18, linewidth=0)
    axes.plot(layers, 100 * by_layer.mean(0), "o-", color="#1f5f8b", markersize=4, linewidth=1.4)
    top = 100 * by_layer.mean(0).max()
    lines = {"the object's share of the picture": (100 * area, "#8a8a8a")}
    for layers_name, colour in (("proposed", "#b5372b"), ("preset", "#3b7a3f")):
        found = next(r for r in rows if r["layers"] == layers_name and r["map"] == "IA")
        lines[f"IA, {layers_name} layers"] = (found["object"], colour)
        top = max(top, found["object"])
    for label, (height, colour) in lines.items():
        axes.axhline(height, color=colour, linewidth=1.3, linestyle="--", label=label)
    axes.set(xlabel="layer", ylabel="attention on the asked-for object, %", ylim=(0, 1.45 * top), xticks=layers)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
