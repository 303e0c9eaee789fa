"""The dual encoder goes on with hard negatives: prompts with one fact swapped, every relation for each other one.

Without them the towers know which words occur and hardly how two things stand: of four relations the true one scored
highest in 0.4 of the pictures.
"""

from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn.functional import cross_entropy, normalize

from tinyworld.data import altered, sample_pairs, share_that_holds, worn
from tinyworld.models.dual_encoder import measure_retrieval, to_input, tokens_of
from tinyworld.models.training_stage import train_stage
from tinyworld.oracle import facts_that_hold, read_scene
from tinyworld.scenes import RELATIONS, Prompt, sample_picture, sample_prompt

_PICTURES = 48  # a step
_DRAWN = 16  # and as many that the generator drew, two prompts each
_SWAPS = 3  # of each prompt: as many as a relation has
_SHARPNESS = 20.0  # of the cosine, in the softmax over a picture's own four prompts


def swapped(prompt: Prompt, rng: np.random.Generator, seen_only: bool = True) -> list[Prompt]:
    """Three prompts with one fact swapped; for half of those with a relation all other relations.

    Example:
        >>> from tinyworld.scenes import parse_prompt
        >>> prompt = parse_prompt("a red ring left of a blue square")
        >>> sorted(p.relation for p in swapped_relations(prompt))
        ['above', 'below', 'right of']
    """
    if prompt.relation and rng.random() < 0.5:
        return swapped_relations(prompt)
    return [altered(prompt, rng, seen_only) for _ in range(_SWAPS)]


def swapped_relations(prompt: Prompt) -> list[Prompt]:
    """The prompt with each of the three other relations."""
    others = [relation for relation in RELATIONS if relation != prompt.relation]
    return [Prompt(prompt.first, second=prompt.second, relation=relation) for relation in others]


def train_on_hard_negatives(
    model: open_clip.model.CLIP, rated: tuple, work_dir: Path, steps: int, seed: int, learning_rate: float = 1e-3
) -> float:
    """Continues on worn scenes and on generated pictures; returns minutes spent.

    Each scene is to be nearest to its own prompt among the batch's and among its own three swaps, and the cosine,
    scaled and shifted, regresses on the share of facts that hold, also of the generated pictures (`rated`: what
    `tinyworld.generated.generated_pairs` gives, less the index).
    """
    drawn, drawn_texts, drawn_scores = rated
    drawn_tokens = tokens_of(drawn_texts)
    line = torch.nn.Parameter(torch.tensor([1.5, 0.0]))
    both = torch.nn.ParameterList([line, *model.parameters()])

    def loss_of_step(rng: np.random.Generator) -> torch.Tensor:
        pictures, prompts = sample_pairs(rng, _PICTURES)
        swaps = [swapped(prompt, rng) for prompt in prompts]
        texts = [prompt.text for prompt in prompts] + [swap.text for each in swaps for swap in each]
        chosen = torch.from_numpy(rng.integers(0, len(drawn), _DRAWN))
        pairs = torch.stack([2 * chosen, 2 * chosen + 1], 1).flatten()
        seen = torch.cat([worn(pictures, rng), drawn[chosen]])
        image = normalize(model.encode_image(to_input(seen)), dim=-1)
        text = normalize(model.encode_text(torch.cat([tokens_of(texts), drawn_tokens[pairs]])), dim=-1)
        count = len(prompts)
        of_drawn = (image[count:].repeat_interleave(2, 0) * text[len(texts) :]).sum(-1)
        image, text = image[:count], text[: len(texts)]
        own = torch.cat([text[:count, None], text[count:].view(count, _SWAPS, -1)], 1)
        near = (image[:, None] * own).sum(-1)
        target = torch.arange(count)
        logits = model.logit_scale.exp().clamp(max=100) * image @ text[:count].T
        contrast = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        right = [[1.0, *(share_that_holds(prompt, swap) for swap in each)] for prompt, each in
                 zip(prompts, swaps, strict=True)]  # fmt: skip
        shares = torch.tensor(right)
        # a swap may say the same as the prompt
        rivals = torch.where(shares < 1, _SHARPNESS * near, -torch.inf)
        rivals[:, 0] = _SHARPNESS * near[:, 0]
        hard = cross_entropy(rivals, torch.zeros(count, dtype=torch.long))
        regression = (line[0] * near + line[1] - shares).square().mean()
        regression = regression + (line[0] * of_drawn + line[1] - drawn_scores[pairs]).square().mean()
        return 0.3 * contrast + hard + 4 * regression

    return train_stage(
        "hard_negatives", both, loss_of_step, work_dir=work_dir, steps=steps, learning_rate=learning_rate, seed=seed,
        average=0.998,
        report=lambda: "one wrong, seen {:.3f} held-out {:.3f}; first of four relations, seen {:.3f} held-out {:.3f}"
        .format(*(measure_retrieval(model, held_out)["one_wrong"] for held_out in (False, True)),
                *(first_of_four(model, held_out) for held_out in (False, True))),
    )  # fmt: skip


@torch.no_grad()
def first_of_four(model: open_clip.model.CLIP, held_out: bool, count: int = 300) -> float:
    """How often the true relation of a picture has the highest cosine of the four."""
    rng = np.random.default_rng(29)
    prompts: list[Prompt] = []
    pictures: list[np.ndarray] = []
    while len(prompts) < count:
        prompt = sample_prompt(rng, held_out)
        picture = sample_picture(prompt, rng) if prompt.relation else None
        if picture is not None and all(facts_that_hold(read_scene(picture), prompt)):
            prompts.append(prompt)
            pictures.append(picture)
    image = normalize(model.encode_image(to_input(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))), dim=-1)
    texts = [text for prompt in prompts for text in (prompt.text, *(p.text for p in swapped_relations(prompt)))]
    text = normalize(model.encode_text(tokens_of(texts)), dim=-1).view(count, 1 + _SWAPS, -1)
    near = (image[:, None] * text).sum(-1)
    return (near[:, :1] > near[:, 1:]).all(1).float().mean().item()
