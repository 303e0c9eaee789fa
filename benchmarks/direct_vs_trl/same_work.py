"""Do both sides do the same work? Compares the gradient of one batch and the UNet's rows. Results go to same_work.csv.

TRL_0_23_1=FOLDER PYTHONPATH=FOLDER:. python -m benchmarks.direct_vs_trl.same_work

Both sides run in one process with the same prompts, noise and LoRA weights. The weights are random, because an
untrained LoRA's B is 0.

    difference     |ours - theirs| / |theirs| of the LoRA's gradient
    same_clamp     the same, with TRL's clamp in our decoder, which has no gradient for saturated pixels
    saturated      share of saturated pixels
    forward        rows of UNet forward passes, with those recomputed in the backward pass
    with_graph     forward rows that autograd recorded
    backward       rows whose output received a gradient
"""

from pathlib import Path
from unittest import mock

import torch

from benchmarks.direct_vs_trl.our_side import OurSide
from benchmarks.direct_vs_trl.trl_side import TrlSide
from benchmarks.results_file import write_rows
from rl.models.policy import sample_seed

RESULTS = Path(__file__).with_name("same_work.csv")
ROWS = ("forward", "with_graph", "backward")
COLUMNS = (
    "guidance", "steps", "depth", "pictures", "difference", "same_clamp", "saturated",
    *(f"{side}_{name}" for name in ROWS for side in ("trl", "ours")),
)  # fmt: skip


class Rows:
    """Counts a UNet's rows until it is closed."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.counts = dict.fromkeys(ROWS, 0)
        # Recomputation stops before the last layer, so passes are counted at their start.
        self.handles = [unet.register_forward_pre_hook(self._begins), unet.register_forward_hook(self._ends)]

    def close(self) -> dict[str, int]:
        """The counts."""
        for handle in self.handles:
            handle.remove()
        return self.counts

    def _begins(self, unet: torch.nn.Module, inputs: tuple) -> None:
        self.counts["forward"] += len(inputs[0])
        self.counts["with_graph"] += len(inputs[0]) * torch.is_grad_enabled()

    def _ends(self, unet: torch.nn.Module, inputs: tuple, output: tuple) -> None:
        if output[0].requires_grad:
            output[0].register_hook(self._asked)

    def _asked(self, gradient: torch.Tensor) -> None:
        self.counts["backward"] += len(gradient)


def lora(unet: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The trained parameters by name, set to random values that depend only on their index."""
    found = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    for number, name in enumerate(sorted(found)):
        torch.nn.init.normal_(found[name], std=0.1, generator=torch.Generator().manual_seed(number))
    return found


def gradient(optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], run) -> torch.Tensor:
    """The unclipped gradient at the optimiser's step inside `run`. The step is not taken."""
    seen: list[torch.Tensor] = []

    def look(*args) -> None:
        seen.append(torch.cat([parameters[name].grad.flatten() for name in sorted(parameters)]).clone())

    handle = optimizer.register_step_pre_hook(look)
    values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    run()
    handle.remove()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
    (found,) = seen
    return found


def compare(steps: int, depth: int, guidance: float, pictures: int = 4) -> dict:
    """A row."""
    settings = {
        "sample_num_steps": steps, "sample_guidance_scale": guidance, "sample_batch_size": pictures, "depth": depth,
        "train_max_grad_norm": 1e9, "seed": 0,
    }  # fmt: skip
    ours = OurSide(settings)
    theirs = TrlSide(settings | {"mend_no_guidance": guidance <= 1})
    own, other = lora(ours.trainer.policy.denoiser), lora(theirs.pipeline.unet)
    if set(own) != set(other):
        raise ValueError(f"Expected the same LoRA layers on both sides, got {sorted(set(own) ^ set(other))[:3]}.")

    drawn: list[str] = []
    sample, images = ours.trainer.update.sample, []

    def watched(batch) -> None:
        drawn[:] = batch.prompts
        sample(batch)
        images.append(batch.images)

    ours.trainer.update.sample = watched
    rows = Rows(ours.trainer.policy.denoiser)
    found = gradient(ours.trainer.optimizer, own, ours.run_epoch)
    our_rows, ours.epoch = rows.close(), 0
    with mock.patch("rl.models.stable_diffusion.clamp_straight_through", lambda values: values.clamp(0, 1)):
        clamped = gradient(ours.trainer.optimizer, own, ours.run_epoch)

    prompts = iter(drawn)
    theirs.trainer.prompt_fn = lambda: (next(prompts), {})
    noise = ours.trainer.policy._noise([sample_seed(0, 0, number) for number in range(pictures)])
    left = iter(noise[1:])
    with_latents = theirs.pipeline.rgb_with_grad
    theirs.pipeline.rgb_with_grad = lambda **kwargs: with_latents(latents=noise[0], **kwargs)
    rows = Rows(theirs.pipeline.unet)
    with mock.patch("trl.models.modeling_sd_base.randn_tensor", lambda *args, **kwargs: next(left)):
        expected = gradient(theirs.trainer.optimizer.optimizer, other, theirs.run_epoch)
    their_rows = rows.close()

    saturated = (images[0] == 0) | (images[0] == 1)
    distances = [((part - expected).norm() / expected.norm()).item() for part in (found, clamped)]
    return (
        {"guidance": guidance, "steps": steps, "depth": depth, "pictures": pictures}
        | {"difference": f"{distances[0]:.1e}", "same_clamp": f"{distances[1]:.1e}"}
        | {"saturated": saturated.float().mean().item()}
        | {f"trl_{name}": count for name, count in their_rows.items()}
        | {f"ours_{name}": count for name, count in our_rows.items()}
    )


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    rows = []
    for guidance in (2.0, 1.0):
        for depth in (1, 5, 20):
            rows.append(compare(20, depth, guidance))
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ", flush=True)
    write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
