"""Reward specs to one callable: a weighted sum whose parts are each logged alone.

A reward is TRL's: `fn(images (B,3,H,W) float in [0,1], prompts: tuple[str], metadata: tuple) -> (rewards (B,), info)`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reward.files.quoting import quoted
from reward.parallel.background import BackgroundThreads
from rl.prompts import import_function

RewardFunction = Callable[[torch.Tensor, tuple[str, ...], tuple[Any, ...]], Any]


class NonFiniteRewardError(ValueError):
    """A reward came out as NaN or infinite; carries the pictures, prompts and rewards of the batch."""

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
        keep_graph: whether the rewards must pass gradients to the pictures.
        aggregation: sum, or min: the smallest of the weighted rewards, which an ensemble's fooled member cannot raise.
        timeout: seconds that each may take for a batch; 0: wait for ever.

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
            total (B,) float32, and each term (B,) before its weight.

        Raises:
            ValueError: a reward returns another shape than (B,), or no gradient where one is needed.
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
                    f"Expected reward {reward.name!r} to return {len(prompts)} numbers, one a picture, got "
                    f"{quoted(values)} ({error})."
                ) from error
            if values.shape != (len(prompts),):
                raise ValueError(
                    f"Expected reward {reward.name!r} to return shape ({len(prompts)},), one number a picture, "
                    f"got {tuple(values.shape)}."
                )
            bad = ~torch.isfinite(values)
            if bad.any():
                where = bad.nonzero().flatten().tolist()
                raise NonFiniteRewardError(
                    f"Expected finite rewards, got {values[bad].tolist()[:3]} from {reward.name!r} for "
                    f"{len(where)} of {len(prompts)} pictures, first for prompt {quoted(prompts[where[0]])}. No "
                    "update was "
                    "made with them; look at the pictures, then at the reward.",
                    images.detach(), prompts, values.detach(),
                )
            if self.keep_graph and images.requires_grad and not values.requires_grad:
                raise ValueError(
                    f"Expected a differentiable reward, got {reward.name!r}, which gives no gradient to the pictures. "
                    "Backpropagation cannot use it; measure it as one of eval_rewards, or train with rl/ddpo_train.py."
                )
            parts[reward.name] = values
        weighted = [reward.weight * parts[reward.name] for reward in self.rewards]
        if self.aggregation == "min" and weighted:
            return torch.stack(weighted).amin(0), parts
        return sum(weighted, torch.zeros(len(prompts), device=images.device)), parts

    def _in_time(self, reward: Reward, images: torch.Tensor, prompts: tuple[str, ...]) -> Any:
        metadata = ({},) * len(prompts)
        if not self.timeout:
            return reward.function(images, prompts, metadata)
        has_graph = torch.is_grad_enabled()

        def answer() -> Any:
            # Whether gradients are recorded is each thread's own affair.
            with torch.set_grad_enabled(has_graph):
                return reward.function(images, prompts, metadata)

        with BackgroundThreads(1) as threads:
            future = threads.submit(answer)
            try:
                return future.result(self.timeout)
            except TimeoutError as error:
                if future.done():  # the reward's own
                    raise
                raise RewardTimeoutError(
                    f"Expected reward {reward.name!r} to answer for {len(prompts)} pictures within reward_timeout = "
                    f"{self.timeout:g} s, got nothing. Look at the reward, or at the server that it asks; if it is "
                    "only slow, set reward_timeout higher."
                ) from error


def normalized_sum(parts: torch.Tensor, weights: Sequence[float], group_size: int) -> torch.Tensor:
    """Weighted sum of rewards, each with mean 0 and standard deviation 1 over its group before its weight.

    sum_r w_r (x_r - mean_g x_r) / std_g x_r, the std that of the population; a reward that is the same for a whole
    group says nothing about it and adds 0.

    Args:
        parts: (N,R), a column a reward; groups of `group_size` lie side by side.
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
    # Rewards are float32: below its resolution a spread is rounding.
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
    """Rewards from specs, weight 1 if left out.

        module:function=weight
        module:factory@SOURCE=weight
        hyperalign:FOLDER_OR_HUB_ID=weight
        aesthetic:HEAD.safetensors[@BACKBONE/PRETRAINED]=weight

    A reward is logged under its function's name, or under the last part of its folder's. A factory is called with its
    source, resolved, and the device, and returns the reward: for rewards with a model of their own.

    Args:
        specs: one spec a reward.
        device: where a HyperAlign model is put.
        resolve: turns a folder name of the recipe into a path; the entry script knows what is packaged.
        field: the config field, for messages.
        keep_graph, aggregation, timeout: see `RewardSet`.

    Raises:
        ValueError: malformed spec or weight, no such module or function.
    """
    rewards = [_load(spec, device, resolve, field, keep_graph) for spec in specs]
    return RewardSet(rewards, keep_graph=keep_graph, aggregation=aggregation, timeout=timeout)


def _load(spec: str, device: Any, resolve: Callable[[str], str], field: str, keep_graph: bool) -> Reward:
    source, sign, weight_text = spec.rpartition("=")
    if not sign:
        source, weight_text = spec, "1"
    try:
        weight = float(weight_text)
    except ValueError:
        raise ValueError(f"{field}: expected a number after '=' in {spec!r}, got {weight_text!r}.") from None
    if source.startswith("hyperalign:"):
        from reward import HyperAlignReward

        folder = source.removeprefix("hyperalign:")
        model = HyperAlignReward.from_pretrained(resolve(folder), device=device)
        if keep_graph:
            from reward.trl_adapters import alignprop_reward

            function = alignprop_reward(model)
        else:
            function = model.ddpo()
        return Reward(re.split(r"[:/\\]", folder.rstrip("/\\"))[-1], function, weight)
    if source.startswith("aesthetic:"):
        from rl.rewards.aesthetic import DEFAULT_BACKBONE, AestheticReward

        head, _, backbone = source.removeprefix("aesthetic:").partition("@")
        return Reward("aesthetic", AestheticReward(head, backbone or DEFAULT_BACKBONE, device), weight)
    name, at, argument = source.partition("@")
    function = import_function(name, field)
    if at:
        function = function(resolve(argument), device=device)
    return Reward(name.partition(":")[2], function, weight)
