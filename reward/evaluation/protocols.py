"""Evaluation protocols: within a data set, across data sets, over the rows of an ablation. All include controls.

Every statistic is measured on test pairs whose prompts were not used in training or validation. Intervals are over
prompts: each draw resamples the prompts, takes them in all splits, and averages the statistic over the splits. A prompt
that several splits test therefore counts once. The intervals do not cover the variation between training runs.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from reward.evaluation.result import SAMPLES, Evaluation
from reward.model.head import HyperAlign
from reward.statistics.correlations import bootstrap_by_prompt, correlations
from reward.statistics.ridge import fit_ridge
from reward.training.controls import CONTROLS, fit_control, in_words, load_controls
from reward.training.pairs import FeaturePairs
from reward.training.recipe import TrainingConfig
from reward.training.train import train_head

if TYPE_CHECKING:
    from reward.backbone.towers import Backbone
    from reward.datasets import AlignmentDataset
    from reward.hyperalign_reward import HyperAlignReward

__all__ = [
    "RatedFeatures",
    "ablation",
    "bootstrap_by_prompt",
    "correlations",
    "cross_database",
    "evaluate_saved",
    "single_database",
]

SEEDS = tuple(range(10))
SHUFFLED = "shuffled prompts"
RIDGES = {"ridge, image": "image", "ridge, additive": "additive", "ridge, additive + cosine": "cosine"}


@dataclass(frozen=True)
class RatedFeatures:
    """The data of a protocol: un-normalised image and text features (N, D), prompts, raw human scores (N,)."""

    name: str
    image: Tensor
    text: Tensor
    prompts: tuple[str, ...]
    scores: np.ndarray

    @classmethod
    def of(
        cls, dataset: "AlignmentDataset", backbone: "Backbone", cache_dir: str | PathLike | None, progress: bool = True
    ) -> "RatedFeatures":
        """Compute the features of a data set on disk, with the cache of `reward.training.feature_cache`."""
        from reward.training.feature_cache import backbone_features

        image, text = backbone_features(backbone, dataset.images, dataset.prompts, cache_dir, progress=progress)
        return cls(dataset.name, image, text, tuple(dataset.prompts), np.asarray(dataset.scores, dtype=float))


def single_database(
    data: RatedFeatures,
    configs: Mapping[str, TrainingConfig],
    *,
    seeds: Sequence[int] = SEEDS,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Train and test on one data set. Each seed sets a split by prompt and is also the seed of the training.

    Args:
        data: the data set.
        configs: config of each row by its name. `fine_tune` must be off. Controls are trained for the last row.
        seeds: one split and one training per seed.
        samples: number of bootstrap draws.
        progress: show a bar.

    Returns:
        the rows of `configs`, and for the last one also its twins, ridge regressions, shuffled prompts, and its gap
        over each of these.

    Raises:
        ValueError: no config, configs with different shares of the split, or a config with `fine_tune`.

    Example:
        >>> config = load_training_config("configs/hyperalign_entail_two_sided.yaml")
        >>> evaluation = single_database(RatedFeatures.of(dataset, backbone, "cache"), {"full": config})
    """
    found = Evaluation("single-database", data.name, data.name)
    _run(found, configs, seeds, data, None, progress)
    found.summarise(_gaps_of_last(found, configs), samples)
    return _told(found, list(configs)[-1])


def ablation(
    data: RatedFeatures,
    configs: Mapping[str, TrainingConfig],
    *,
    seeds: Sequence[int] = SEEDS,
    controls: bool = True,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """As `single_database`, with the gap of each row over the row before it.

    Args:
        controls: False skips twins, ridge regressions and shuffled prompts, for a sweep whose controls are known.
    """
    found = Evaluation("ablation", data.name, data.name)
    _run(found, configs, seeds, data, None, progress, controls)
    names = list(configs)
    steps = list(zip(names[1:], names[:-1], strict=True))
    found.summarise([*steps, *(g for g in _gaps_of_last(found, configs) if g not in steps)], samples)
    return _told(found, list(configs)[-1])


def cross_database(
    train_data: RatedFeatures,
    test_data: RatedFeatures,
    configs: Mapping[str, TrainingConfig],
    *,
    seeds: Sequence[int] = SEEDS,
    samples: int = SAMPLES,
    progress: bool = True,
) -> Evaluation:
    """Train on one data set, test on the pairs of another whose prompts the first does not have.

    The first data set is split into a training and a validation part. Arguments, result and errors are as in
    `single_database`; it is also a ValueError if no test pair is left.
    """
    found = Evaluation("cross-database", train_data.name, test_data.name)
    _run(found, configs, seeds, train_data, test_data, progress)
    found.summarise(_gaps_of_last(found, configs), samples)
    return _told(found, list(configs)[-1])


def evaluate_saved(
    reward: "HyperAlignReward",
    folder: str | PathLike,
    data: RatedFeatures,
    *,
    samples: int = SAMPLES,
) -> Evaluation:
    """Test a model that `train` saved, on pairs whose prompts were not in its training or validation part.

    Args:
        reward: the model in `folder`. The features in `data` must come from its backbone.
        folder: folder with split.json and controls/. Without split.json every pair is tested, and a note says so.
        data: the data set to test on.
        samples: number of bootstrap draws.

    Raises:
        ValueError: no such pair is left.
    """
    from reward.datasets import prompt_key
    from reward.training.train import CONTROLS_NAME, SPLIT_NAME

    folder = Path(folder)
    found = Evaluation("saved-model", "unknown", data.name)
    keys = [prompt_key(prompt) for prompt in data.prompts]
    rows = np.arange(len(keys))
    if (folder / SPLIT_NAME).is_file():
        about = json.loads((folder / SPLIT_NAME).read_text(encoding="utf-8"))
        found.trained_on = about["dataset"]
        seen = {prompt_key(p) for part in ("train", "val") for p in about["prompts"][part]}
        rows = np.flatnonzero([key not in seen for key in keys])
        if not len(rows):
            raise ValueError(
                f"Expected pairs of {data.name} with prompts that the model was not trained on but there are none; "
                "take another data set"
            )
        found.notes.append(
            f"Tested on the {len(rows)} of {len(keys)} pairs whose prompts the model was not trained on"
        )
    else:
        found.notes.append(
            f"The model's folder has no {SPLIT_NAME}, so the model may have been trained on prompts of the test"
        )
    image, text, shown = data.image[rows], data.text[rows], [keys[i] for i in rows]
    models = {"model": reward.head, **load_controls(reward.config, folder / CONTROLS_NAME)}
    if missing := [name for name in CONTROLS if name not in models]:
        found.notes.append(
            f"No control models ({', '.join(missing)}) were trained with this model, so its figures may not show "
            "alignment; train it with controls: true"
        )
    with torch.no_grad():
        scores = {name: _numpy(model(image, text).score) for name, model in models.items()}
        found.controls = {*models, SHUFFLED} - {"model"}
        scores[SHUFFLED] = _numpy(reward.head(image, text[_others_prompts(shown, seed=0)]).score)
    found.add(0, shown, data.scores[rows], scores)
    found.summarise([("model", name) for name in scores if name != "model"], samples)
    return _told(found)


def _run(
    found: Evaluation,
    configs: Mapping[str, TrainingConfig],
    seeds: Sequence[int],
    data: RatedFeatures,
    other: RatedFeatures | None,
    progress: bool,
    controls: bool = True,
) -> None:
    from tqdm import tqdm

    from reward.datasets import ScoreScale, prompt_key, split_by_prompt

    _check_configs(configs)
    keys = [prompt_key(prompt) for prompt in data.prompts]
    fits = len(configs) + (len(CONTROLS) if controls else 0)
    steps = tqdm(total=len(seeds) * fits, desc=found.protocol, disable=not progress)
    for seed in seeds:
        first = next(iter(configs.values()))
        share = first.test_share if other is None else 0.0
        split = split_by_prompt(data.prompts, seed=seed, test_share=share, val_share=first.val_share)
        units = ScoreScale.fit(data.scores[split.train]).to_unit(data.scores)
        tested = _tested(data, keys, split.test) if other is None else _unseen(other, set(keys))
        image, text, prompts, human = tested
        predicted: dict[str, np.ndarray] = {}
        for name, config in configs.items():
            model = dataclasses.replace(config.model, embed_dim=data.image.shape[1])
            config = dataclasses.replace(config, model=model, seed=seed, split_seed=seed)
            train, val = (_pairs(data, model, rows, units) for rows in (split.train, split.val))
            head, _ = train_head(config, train, val, progress=False)
            predicted[name] = _predicted(head, image, text)
            steps.update()
        last = list(configs)[-1]
        for control in CONTROLS if controls else ():
            predicted[_twin(control, last)] = _predicted(
                fit_control(control, config, train, val, progress=False), image, text
            )
            steps.update()
        if controls:
            predicted[_twin(SHUFFLED, last)] = _predicted(head, image, text[_others_prompts(prompts, seed)])
        for name, terms in RIDGES.items() if controls else ():
            numbers = [[_numpy(data.image[r]), _numpy(data.text[r]), units[r]] for r in (split.train, split.val)]
            predicted[name] = fit_ridge(terms, *numbers[0], tuple(numbers[1])).predict(_numpy(image), _numpy(text))
        found.controls = set(predicted) - set(configs)
        found.add(seed, prompts, human, predicted)
    steps.close()
    if other is not None:
        dropped = len(other.scores) - len(found.pairs["human"]) // len(seeds)
        found.notes.append(
            f"{dropped} of {len(other.scores)} test pairs were left out, because {data.name} has their prompts too"
        )


def _check_configs(configs: Mapping[str, TrainingConfig]) -> None:
    if not configs:
        raise ValueError("Expected at least one config to evaluate but got none")
    shares = {(config.test_share, config.val_share) for config in configs.values()}
    if len(shares) > 1:
        raise ValueError(
            f"Expected equal test_share and val_share in all rows, because they share the splits, but got {shares}"
        )
    for name, config in configs.items():
        if config.fine_tune:
            raise ValueError(
                f"Expected a frozen backbone in row {name!r} but got fine_tune: true; the protocols use cached "
                "features. Train it with reward.training.train.train and evaluate the saved model"
            )


def _tested(data: RatedFeatures, keys: list[str], rows: np.ndarray) -> tuple[Tensor, Tensor, list[str], np.ndarray]:
    return data.image[rows], data.text[rows], [keys[i] for i in rows], data.scores[rows]


def _unseen(other: RatedFeatures, trained: set[str]) -> tuple[Tensor, Tensor, list[str], np.ndarray]:
    from reward.datasets import prompt_key

    keys = [prompt_key(prompt) for prompt in other.prompts]
    rows = np.flatnonzero([key not in trained for key in keys])
    if not len(rows):
        raise ValueError(
            f"Expected prompts in {other.name} that were not trained on but there are none; take another data set"
        )
    return _tested(other, keys, rows)


def _pairs(data: RatedFeatures, model, rows: np.ndarray, units: np.ndarray) -> FeaturePairs:
    scores = torch.from_numpy(units[rows]).float()
    return FeaturePairs(HyperAlign(model), data.image[rows], data.text[rows], scores, data.name)


def _predicted(head: nn.Module, image: Tensor, text: Tensor) -> np.ndarray:
    with torch.no_grad():
        return _numpy(head(image, text).score)


def _others_prompts(prompts: Sequence[str], seed: int) -> np.ndarray:
    """For each row, the index of a row with another prompt.

    The prompts are put on a ring in random order, and each is replaced by its neighbour.
    """
    names, groups = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    ring = np.random.default_rng(seed).permutation(len(names))
    neighbour = np.empty(len(names), dtype=int)
    neighbour[ring] = np.roll(ring, 1)
    first_row = np.array([np.flatnonzero(groups == g)[0] for g in range(len(names))])
    return first_row[neighbour[groups]]


def _gaps_of_last(found: Evaluation, configs: Mapping[str, TrainingConfig]) -> list[tuple[str, str]]:
    last = list(configs)[-1]
    return [(last, name) for name in found.predictions if name in found.controls]


def _told(found: Evaluation, last: str | None = None) -> Evaluation:
    """Add a note for every twin that the model, or the row `last`, does not beat."""
    twins = {_twin(name, last) if last else name: name for name in CONTROLS}
    for gap in found.gaps:
        if gap.versus in twins and (words := in_words(twins[gap.versus], gap.srcc, gap.low, gap.high)):
            found.notes.append(f"{gap.row}: {words}")
    return found


def _twin(control: str, row: str) -> str:
    return f"{row}: {control}"


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
