"""What a flow-matching pipeline tells its transformer of prompts: captured from the pipeline's own call.

The call ends at the first call of the transformer, so that only the text encoders run.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rl.models.flow_call import Finished, PipelineCall
from rl.models.flow_facts import Facts

_KEPT_ROWS = 256  # of conditioning; the pipeline pads a text to the longest one beside it, so batches are kept


@dataclass(frozen=True)
class FlowConditioning:
    """The transformer's arguments besides latents and timestep, of `rows` pictures."""

    arguments: dict[str, Any]
    rows: int


class FlowConditioner:
    """Prompts -> conditioning; the different texts of a batch are encoded together, once.

    Args:
        call: the pipeline's.
        facts: what is known of it.
        num_steps: of a rollout.
        first_timestep: the transformer's timestep argument at the first of them.
    """

    def __init__(self, call: PipelineCall, facts: Facts, num_steps: int, first_timestep: float) -> None:
        self.call, self.facts, self.num_steps, self.first_timestep = call, facts, num_steps, first_timestep
        self._kept: OrderedDict[tuple[str, ...], FlowConditioning] = OrderedDict()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> FlowConditioning:
        """The conditioning of N pictures.

        Raises:
            ValueError: the pipeline's call is unlike the recorded one.
        """
        # In one order, so that a shuffled batch is found again.
        unique = tuple(sorted(set(prompts)))
        if unique not in self._kept:
            self._kept[unique] = self._capture(unique)
        self._kept.move_to_end(unique)
        while len(self._kept) > 1 and sum(map(len, self._kept)) > _KEPT_ROWS:
            self._kept.popitem(last=False)
        own = self._kept[unique]
        if unique == tuple(prompts):
            return own
        places = [unique.index(prompt) for prompt in prompts]
        arguments = {
            name: value if name in self.facts.shared else _rows(value, len(unique), places)
            for name, value in own.arguments.items()
        }
        return FlowConditioning(arguments, len(places))

    def check(self, arguments: dict[str, Any], latents: torch.Tensor) -> None:
        """Whether the transformer's arguments at the first step show the facts again.

        Raises:
            ValueError: they do not.
        """
        facts, name = self.facts, self.call.name
        given, asked = arguments.get(facts.latents), facts.argument(latents)
        rows = list(zip(given, asked, strict=False)) if given is not None and len(given) == len(latents) else []
        timestep = arguments.get(facts.timestep)
        if not rows or not all(torch.equal(own.to(facts.dtype), row) for own, row in rows):
            raise ValueError(f"Expected {facts.latents} of {name} to be the latents as recorded, got others.")
        if timestep is None or not bool((timestep == self.first_timestep).all()):
            raise ValueError(
                f"Expected {facts.timestep} = {self.first_timestep} at the first step of {name} as recorded, "
                f"got {timestep}."
            )

    def _capture(self, prompts: tuple[str, ...]) -> FlowConditioning:
        seen: dict[str, Any] = {}

        def denoise(arguments: dict[str, Any]) -> None:
            self.check(arguments, noise)
            seen.update(arguments)
            raise Finished

        device = next(self.call.pipeline.transformer.parameters()).device
        noise = torch.zeros((len(prompts), *self.facts.latent_shape), device=device)
        self.call(prompts, self.num_steps, 1.0, denoise=denoise, noise=noise)
        del seen[self.facts.latents], seen[self.facts.timestep]
        return FlowConditioning(seen, len(prompts))


def _rows(value: Any, count: int, places: list[int]) -> Any:
    """Rows `places` of an argument that has one row for each of `count` pictures; others as they are."""
    if isinstance(value, torch.Tensor):
        return value[torch.tensor(places, device=value.device)] if value.dim() and len(value) == count else value
    if isinstance(value, (list, tuple)) and len(value) == count:
        return [value[place] for place in places]
    return value
