"""Why a pair scores as it does: a few plain sentences, numbers for each phrase, and a picture."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reward.explanation.explanation import Explanation
from reward.explanation.phrase_scores import PhraseScores, score_phrases
from reward.explanation.poincare_plane import ConePlane
from reward.explanation.saliency import saliency
from reward.files.quoting import quoted
from reward.hyperalign_reward import HyperAlignReward
from reward.images.preprocess import to_tensors
from reward.language.phrases import split_prompt
from reward.model.head import HyperAlignOutput


def explain(reward: HyperAlignReward, image: Any, prompt: str) -> Explanation:
    """Diagnose one image-prompt pair.

    Args:
        reward: any reward; an untrained one is explained as the cosine that it is.
        image: one picture, as `HyperAlignReward` takes it.
        prompt: in English, for the phrases are found by English words.

    Raises:
        TypeError: a prompt that is no string, an image of no known type.
        ValueError: several images, an unreadable one, a prompt without a word.

    Example:
        >>> print(explain(reward, "ring.png", "a red ring left of a blue square"))  # doctest: +SKIP
    """
    picture = _one_picture(image, prompt)
    phrases = explain_phrases(reward, picture, prompt)
    with torch.no_grad():
        output, plane = _geometry(reward, reward.backbone.encode_images(picture.unsqueeze(0)), prompt)
    return Explanation(
        prompt=prompt,
        image=picture.permute(1, 2, 0).clamp(0, 1).cpu().float().numpy(),
        output=output,
        plane=plane,
        phrases=phrases,
        saliency=saliency(reward, picture, prompt),
        sentences=(
            f"The score is {output.score:.2f}.",
            _cone_sentence(reward, output),
            _modulation_sentence(reward, output),
            _phrase_sentence(phrases),
        ),
    )


@torch.no_grad()
def explain_phrases(reward: HyperAlignReward, image: Any, prompt: str) -> PhraseScores:
    """The phrases of `explain` alone, without its map, which costs the most; same inputs and errors."""
    image_feature = reward.backbone.encode_images(_one_picture(image, prompt).unsqueeze(0))

    def score(prompts: list[str]) -> np.ndarray:
        text = reward.backbone.encode_prompts(prompts)
        return reward.head(image_feature.expand(len(prompts), -1), text).score.cpu().numpy()

    return score_phrases(split_prompt(prompt), score, lambda old, new: _knows(reward, old, new))


def draw(explanation: Explanation, path: str | os.PathLike) -> Path:
    """Write the explanation's picture (.png, .svg, .pdf); see `reward.explanation.cone_picture.draw`."""
    from reward.explanation import cone_picture

    return cone_picture.draw(explanation, path)


def _one_picture(image: Any, prompt: str) -> torch.Tensor:
    """The image as (3, H, W), once both inputs are seen to be what can be explained."""
    if not isinstance(prompt, str):
        raise TypeError(f"Expected one prompt, a string, to explain but got {type(prompt).__name__}")
    if not prompt.strip():
        raise ValueError(f"Expected a prompt with at least one word but got {quoted(prompt)}")
    tensors = to_tensors(image)
    if len(tensors) != 1:
        raise ValueError(f"Expected one image to explain but got {len(tensors)}; explain them one by one")
    return tensors[0].detach()


def _geometry(reward: HyperAlignReward, image_feature: torch.Tensor, prompt: str) -> tuple:
    text_feature = reward.backbone.encode_prompts([prompt])
    u_image, u_text = reward.head.adapt(image_feature, text_feature)
    output = HyperAlignOutput(*(value.squeeze(0).cpu() for value in reward.head.score_adapted(u_image, u_text)))
    rho_image, rho_text = reward.head.radii(image_feature, text_feature)
    e_image, e_text = (torch.nn.functional.normalize(u.double(), dim=-1) for u in (u_image, u_text))
    # the angle between two unit vectors, without acos's loss near 0 and pi
    between = 2 * torch.atan2((e_image - e_text).norm(), (e_image + e_text).norm())
    return output, ConePlane(rho_text.item(), rho_image.item(), between.item(), output.half_aperture.item())


def _knows(reward: HyperAlignReward, old: str, new: str) -> bool:
    """Whether a word is about as whole to the tokenizer as the one it replaces.

    A word that is spelt in pieces was rare in training or never seen, and its score means little.
    """
    bare, own, other = (reward.backbone.tokenizer.length(text) for text in ("", old, new))
    if bare is None:
        return True
    return other - bare <= max(own - bare, len(new.split()))


def _cone_sentence(reward: HyperAlignReward, output: HyperAlignOutput) -> str:
    phi, delta, margin = (np.degrees(v.item()) for v in (output.exterior_angle, output.half_aperture, output.margin))
    where = f"{phi:.0f}° off the axis of a cone that opens {delta:.0f}° to each side"
    if margin >= 0:
        sentence = f"The image lies inside the prompt's cone: {where}, {margin:.0f}° within its edge."
    else:
        sentence = f"The image lies outside the prompt's cone: {where}, {-margin:.0f}° beyond its edge."
    if reward.config.entailment is None or reward.config.lambda_ent == 0:
        sentence += " This head was trained without the entailment loss: nothing asked for right images to lie inside."
    return sentence


def _modulation_sentence(reward: HyperAlignReward, output: HyperAlignOutput) -> str:
    slope, shift = (output.gamma * output.alpha).item(), (output.gamma * output.beta).item()
    sentence = f"The modulation turned the cosine {output.similarity:.2f} into {output.score:.2f}"
    if abs(slope - 1) < 1e-6 and abs(shift) < 1e-6:
        return f"The modulation left the cosine {output.similarity:.2f} as it is."
    sentence += f" ({slope:.2f} x cosine {'-' if shift < 0 else '+'} {abs(shift):.2f})."
    source = {"geometry": "distance and angles", "cosine": "cosine"}.get(reward.config.modulation)
    if source is None:
        return f"{sentence} It does the same for every pair."
    with torch.no_grad():
        # M sees standardised inputs: zero is the average pair that it was calibrated on
        alpha, beta, gamma = reward.head.modulation(torch.zeros_like(reward.head.z_mean))
    average = (gamma * (alpha * output.similarity.to(alpha.device) + beta)).item()
    change = output.score.item() - average
    if abs(change) < 0.005:
        return f"{sentence} A pair of average {source} would have scored the same."
    return (
        f"{sentence} With this cosine and average {source} it would be {average:.2f}: "
        f"this pair's own {'raised' if change > 0 else 'lowered'} it by {abs(change):.2f}."
    )


def _phrase_sentence(phrases: PhraseScores) -> str:
    worst = phrases.worst
    if worst is None:
        return "No phrase could be scored: the prompt is one phrase, and no word in it has a known alternative."
    if worst.best_swap is None:
        return (
            f"Worst satisfied: “{worst.text}”; without it the score would be {worst.without:.2f} "
            f"instead of {phrases.prompt_score:.2f}."
        )
    swap = worst.best_swap
    instead = f"with “{swap.new}” for “{swap.old}” the score would be {worst.best_score:.2f}"
    if phrases.clearly_wrong:
        return f"Worst satisfied: “{worst.text}”; {instead} instead of {phrases.prompt_score:.2f}."
    if worst.margin < 0:
        return (
            f"Worst satisfied: “{worst.text}”, though not clearly wrong; {instead} instead of "
            f"{phrases.prompt_score:.2f}, and swaps of words vary by {phrases.noise:.2f} anyhow."
        )
    return f"Every phrase fits better than what was tried in its place. Least sure is “{worst.text}”: {instead}."


