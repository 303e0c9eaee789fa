"""Turn reward specs into one callable: a weighted sum that also returns each term for the log.

A reward function has TRL's form:
`fn(images (B,3,H,W) float in [0,1], prompts: tuple[str], metadata: tuple) -> (rewards (B,), info)`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reward.files.quoting import quoted
from reward.known.loading import is_known, load_known
from reward.parallel.background import BackgroundThreads
from rl.prompts import import_function, metadata_of

RewardFunction = Callable[[torch.Tensor, tuple[str, ...], tuple[Any, ...]], Any]


class NonFiniteRewardError(ValueError):
    """A reward is NaN or infinite. The error holds the batch's pictures, prompts and rewards."""

    def __init__(self, message: str, images: torch.Tensor, prompts: tuple[str, ...], rewards: torch.Tensor) -> None:
        super().__init__(message)
        self.images, self.prompts, self.rewards = images, prompts, rewards


class RewardTimeoutError(TimeoutError):
    """A reward did not answer in time."""


@dataclass(frozen=True)
class Reward:
    """One term of the sum."""

    name: str
    function: RewardFunction
    weight: float = 1.0


class RewardSet:
    """Weighted sum of rewards.

    Args:
        rewards: the terms.
        keep_graph: whether the rewards must be differentiable in the pictures.
        aggregation: "sum", or "min": the smallest of the weighted rewards, which one fooled reward cannot raise.
        timeout: seconds that each reward may take for a batch; 0: no limit.

    Raises:
        ValueError: two rewards of the same name.

    Example:
        >>> rewards = RewardSet([Reward("redness", lambda images, prompts, metadata: (images[:, 0].mean((1, 2)), {}))])
        >>> total, parts = rewards(torch.rand(4, 3, 64, 64), ["a red ring"] * 4)
    """

    def __init__(
        self, rewards: Sequence[Reward], *, keep_graph: bool = False, aggregation: str = "sum", timeout: float = 0.0
    ) -> None:
        names = [reward.name for reward in rewards]
        if len(set(names)) != len(names):
            raise ValueError(f"rewards: expected different names, got {names}. Merge the weights of equal rewards.")
        self.rewards, self.keep_graph, self.aggregation = list(rewards), keep_graph, aggregation
        self.timeout = timeout

    @property
    def names(self) -> list[str]:
        """The terms' names, in order."""
        return [reward.name for reward in self.rewards]

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Score pictures (B,3,H,W) in [0,1].

        Returns:
            total (B,) float32, and each unweighted term (B,) by name.

        Raises:
            ValueError: a reward returns another shape than (B,), or is not differentiable although `keep_graph` is set.
            NonFiniteRewardError: a reward returns NaN or infinity.
            RewardTimeoutError: a reward does not answer within `timeout`.
        """
        prompts = tuple(prompts)
        parts = {}
        for reward in self.rewards:
            result = self._in_time(reward, images, prompts)
            values = result[0] if isinstance(result, tuple) else result
            try:
                values = torch.as_tensor(values, device=images.device).float()
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"Expected reward {reward.name!r} to return {len(prompts)} numbers, one per picture, got "
                    f"{quoted(values)} ({error})."
                ) from error
            if values.shape != (len(prompts),):
                raise ValueError(
                    f"Expected reward {reward.name!r} to return shape ({len(prompts)},), one number per picture, "
                    f"got {tuple(values.shape)}."
                )
            bad = ~torch.isfinite(values)
            if bad.any():
                where = bad.nonzero().flatten().tolist()
                raise NonFiniteRewardError(
                    f"Expected finite rewards, got {values[bad].tolist()[:3]} from {reward.name!r} for "
                    f"{len(where)} of {len(prompts)} pictures, first for prompt {quoted(prompts[where[0]])}. No "
                    "update was made with them. Check the pictures, then the reward.",
                    images.detach(), prompts, values.detach(),
                )
            if self.keep_graph and images.requires_grad and not values.requires_grad:
                raise ValueError(
                    f"Expected a differentiable reward, got {reward.name!r}, which has no gradient for the pictures. "
                    "Use it as one of eval_rewards, or train with rl/ddpo_train.py, which needs no gradient."
                )
            parts[reward.name] = values
        weighted = [reward.weight * parts[reward.name] for reward in self.rewards]
        if self.aggregation == "min" and weighted:
            return torch.stack(weighted).amin(0), parts
        return sum(weighted, torch.zeros(len(prompts), device=images.device)), parts

    def _in_time(self, reward: Reward, images: torch.Tensor, prompts: tuple[str, ...]) -> Any:
        metadata = tuple(metadata_of(prompt) for prompt in prompts)
        if not self.timeout:
            return reward.function(images, prompts, metadata)
        has_graph = torch.is_grad_enabled()

        def answer() -> Any:
            # Gradient mode is thread-local: pass it on to this thread.
            with torch.set_grad_enabled(has_graph):
                return reward.function(images, prompts, metadata)

        with BackgroundThreads(1) as threads:
            future = threads.submit(answer)
            try:
                return future.result(self.timeout)
            except TimeoutError as error:
                if future.done():  # raised by the reward itself
                    raise
                raise RewardTimeoutError(
                    f"Expected reward {reward.name!r} to answer for {len(prompts)} pictures within reward_timeout = "
                    f"{self.timeout:g} s, got no answer. Check the reward, or the server that it uses. If it is only "
                    "slow, increase reward_timeout."
                ) from error


def normalized_sum(parts: torch.Tensor, weights: Sequence[float], group_size: int) -> torch.Tensor:
    """Weighted sum of rewards. Each is first normalised to mean 0 and standard deviation 1 over its group.

    sum_r w_r (x_r - mean_g x_r) / std_g x_r, with the population's std. A reward that is equal for the whole group adds
    0.

    Args:
        parts: (N,R), one column per reward; the rows of a group of `group_size` are next to each other.
        weights: R.
        group_size: N for one group.

    Returns:
        (N,) float32.

    Example:
        >>> normalized_sum(torch.tensor([[0.0, 300.0], [1.0, 100.0]]), [1.0, 1.0], 2)
        tensor([0., 0.])
    """
    values = parts.double().view(-1, group_size, parts.shape[1])
    centred = values - values.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    # Rewards are float32. A std below its resolution is only rounding error.
    says_nothing = spread <= 1e-6 * values.abs().amax(1, keepdim=True)
    unit = torch.where(says_nothing, 0.0, centred / spread.where(~says_nothing, 1.0))
    return (unit * torch.tensor(weights, dtype=torch.float64)).sum(-1).flatten().float()


def load_rewards(
    specs: Sequence[str],
    *,
    device: Any = None,
    resolve: Callable[[str], str] = str,
    field: str = "rewards",
    keep_graph: bool = False,
    aggregation: str = "sum",
    timeout: float = 0.0,
) -> RewardSet:
    """Load rewards from specs. The default weight is 1.

        module:function=weight
        module:factory@SOURCE=weight
        hyperalign:FOLDER_OR_HUB_ID=weight, or of open_clip: hyperalign:NAME/TAG=weight
        aesthetic:HEAD.safetensors[@BACKBONE/PRETRAINED]=weight
        clipscore | pickscore | hpsv2 | vqascore@CAPTIONER | imscore@MODULE.CLASS:HUB_ID, each =weight
        http://HOST:PORT/compute=weight, flow-grpo+http://HOST:PORT=weight

    A reward is logged under its function's name, the last part of its folder's, or open_clip's NAME. A factory is
    called with its source, resolved, and the device, and returns the reward: for rewards with a model of their own.

    Args:
        specs: one spec per reward.
        device: device of the rewards' models.
        resolve: turns a folder name of the recipe into a path, for example of a packaged model.
        field: name of the config field, for error messages.
        keep_graph, aggregation, timeout: see `RewardSet`.

    Raises:
        ValueError: malformed spec or weight, no such module or function.

    Example:
        >>> load_rewards(["hyperalign:models/judge=0.5", "rl.rewards.jpeg:jpeg_compressibility=0.01"]).names
        ['judge', 'jpeg_compressibility']
    """
    rewards = [_load(spec, device, resolve, field, keep_graph) for spec in specs]
    return RewardSet(rewards, keep_graph=keep_graph, aggregation=aggregation, timeout=timeout)


def resolve_source(name: str, resolve: Callable[[str], str]) -> str:
    """A known reward's NAME@SOURCE with its source resolved."""
    kind, at, source = name.partition("@")
    return f"{kind}{at}{resolve(source)}" if at else name


def _load(spec: str, device: Any, resolve: Callable[[str], str], field: str, keep_graph: bool) -> Reward:
    source, sign, weight_text = spec.rpartition("=")
    if not sign:
        source, weight_text = spec, "1"
    try:
        weight = float(weight_text)
    except ValueError:
        raise ValueError(f"{field}: expected a number after '=' in {spec!r}, got {weight_text!r}.") from None
    if source.startswith("hyperalign:"):
        from reward.named_models import TINY_WORLD, load_model, open_clip_name

        folder = source.removeprefix("hyperalign:")
        model = load_model(resolve("tinyworld:hyperalign" if folder == TINY_WORLD else folder), device)
        if keep_graph:
            from reward.trl_adapters import alignprop_reward

            function = alignprop_reward(model)
        else:
            function = model.ddpo()
        towers = open_clip_name(folder)
        name = towers[0] if towers and towers[1] else re.split(r"[:/\\]", folder.rstrip("/\\"))[-1]
        return Reward(name, function, weight)
    if source.startswith("aesthetic:"):
        from reward.known.aesthetic import DEFAULT_BACKBONE, AestheticReward

        head, _, backbone = source.removeprefix("aesthetic:").partition("@")
        return Reward("aesthetic", AestheticReward(head, backbone or DEFAULT_BACKBONE, device), weight)
    if is_known(source):
        known = load_known(resolve_source(source, resolve), device)
        if keep_graph:
            from reward.trl_adapters import alignprop_reward

            if not known.is_differentiable:
                raise ValueError(f"{field}: expected a reward with a gradient, {known.name} has none.")
            return Reward(known.name, alignprop_reward(known), weight)
        return Reward(known.name, known.ddpo(), weight)
    if "://" in source:
        from rl.rewards.remote import RemoteReward

        remote = RemoteReward(source)
        return Reward(remote.name, remote, weight)
    name, at, argument = source.partition("@")
    function = import_function(name, field)
    if at:
        function = function(resolve(argument), device=device)
    return Reward(name.partition(":")[2], function, weight)
