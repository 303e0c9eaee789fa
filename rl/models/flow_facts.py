"""How a flow-matching pipeline calls its transformer: three facts, learned from one recorded call of the pipeline.

1. Which argument is the latents. 2. Which argument is the timestep, and its linear function of sigma. 3. Whether the
scheduler gets the output or its negative. A pipeline that does not fit is refused; the error says what was seen. The
facts are learned with guidance off, because then the pipelines that fit call their transformer once per step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from rl.models.flow_call import Finished, PipelineCall

_PROMPTS = ("a cat", "two red houses by the sea", "rain")
_STEPS = 3
_LINEAR = 1e-5  # tolerance relative to the timestep's range: float32 rounding


@dataclass(frozen=True)
class LatentForm:
    """How latents (N,...) are handed to a transformer, or come back: with a frame axis, as a list of rows.

    half: only the first half of the channels counts; the rest is a learned variance.
    """

    frame: bool = False
    rows: bool = False
    half: bool = False

    def wrap(self, latents: torch.Tensor) -> Any:
        """(N,...) -> the transformer's argument."""
        latents = latents.unsqueeze(2) if self.frame else latents
        return list(latents.unbind(0)) if self.rows else latents

    def unwrap(self, value: Any) -> torch.Tensor:
        """What the transformer returned -> (N,...)."""
        value = torch.stack(list(value)) if self.rows else value
        value = value.squeeze(2) if self.frame else value
        return value.chunk(2, dim=1)[0] if self.half else value


@dataclass(frozen=True)
class Facts:
    """What was learned of a pipeline.

    latents, timestep: names of arguments; timestep = offset + slope * sigma, of `timestep_dtype`; what reaches the
    scheduler is sign * output. shared: arguments that are the same whatever the number of pictures. latent_shape: of
    one picture; dtype: the transformer's. output_shape, output_dtype: of one row that comes back.
    """

    latents: str
    form: LatentForm
    timestep: str
    timestep_dtype: torch.dtype
    offset: float
    slope: float
    sign: int
    output: LatentForm
    output_shape: tuple[int, ...]
    output_dtype: torch.dtype
    shared: frozenset[str]
    latent_shape: tuple[int, ...]
    dtype: torch.dtype

    def argument(self, latents: torch.Tensor) -> Any:
        """Latents (N,...) as the transformer takes them."""
        return self.form.wrap(latents.to(self.dtype))

    def velocity(self, returned: Any) -> torch.Tensor:
        """(N,...) float32: what the transformer returned, as the scheduler is told."""
        value = self.output.unwrap(returned[0]).float()
        return value if self.sign > 0 else -value

    def zeros(self, arguments: dict[str, Any]) -> Any:
        """What the transformer would return, all zero."""
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        given = arguments[self.latents]
        like = given[0] if self.form.rows else given
        value = torch.zeros((len(given), *self.output_shape), dtype=self.output_dtype, device=like.device)
        value = list(value.unbind(0)) if self.output.rows else value
        return (value,) if arguments.get("return_dict") is False else Transformer2DModelOutput(sample=value)

    def timestep_at(self, sigma: float) -> float:
        """The timestep argument at a noise level."""
        return self.offset + self.slope * sigma


@dataclass
class _Recording:
    """A call of S steps: the transformer's arguments and outputs, and what the scheduler was given."""

    arguments: list[dict[str, Any]]
    outputs: list[Any]
    model_outputs: list[torch.Tensor]
    samples: list[torch.Tensor]
    sigmas: list[float]


@torch.no_grad()
def learn(call: PipelineCall) -> Facts:
    """Learn a pipeline's facts; sets `call.guidance_off` and `call.noise_place`.

    Raises:
        ValueError: the pipeline does not fit; the message says what was seen.
    """
    try:
        return _learn(call)
    except ValueError as error:
        call.guidance_off = 0.0  # in a few families 0 turns guidance off, not 1
        try:
            return _learn(call)
        except ValueError:
            raise error from None


def _learn(call: PipelineCall) -> Facts:
    transformer = call.pipeline.transformer
    first, prepared = _first_arguments(call, 2)
    latents_name, form, call.noise_place, latents = _find_latents(call, first, prepared)
    more, _ = _first_arguments(call, 3)
    shared = frozenset(name for name in first if not (_rows(first[name]) == 2 and _rows(more.get(name)) == 3))
    if latents_name in shared:
        raise _refusal(call, f"its {latents_name} do not have one row a picture")
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)).to(latents.device)
    record = _record(call, noise, latents_name, form, transformer)
    if not torch.equal(record.samples[0].float(), noise):
        raise _refusal(call, "the latents that it is given do not reach the scheduler unchanged")
    for arguments, sample in zip(record.arguments, record.samples, strict=True):
        if not _same(arguments[latents_name], form.wrap(sample.to(transformer.dtype))):
            raise _refusal(call, f"{latents_name} are not the scheduler's latents at every step")
    timestep, offset, slope = _find_timestep(call, record, latents_name)
    output, sign = _find_sign(call, record)
    raw = record.outputs[0][0]
    row = raw[0]
    return Facts(
        latents_name, form, timestep, record.arguments[0][timestep].dtype, offset, slope, sign, output,
        tuple(row.shape), row.dtype, shared, tuple(latents.shape[1:]), transformer.dtype,
    )  # fmt: skip


def _first_arguments(call: PipelineCall, count: int) -> tuple[dict[str, Any], Any]:
    """The transformer's first arguments, and what `prepare_latents` had returned; nothing is denoised."""
    seen: list[Any] = []

    def denoise(arguments: dict[str, Any]) -> None:
        seen.append(arguments)
        raise Finished

    try:
        call(list(_PROMPTS[:count]), _STEPS, 1.0, denoise=denoise, prepared=seen.append)
    # A pipeline of an unknown class may raise anything: it misses an argument, or does not take the picture's size.
    except Exception as error:
        raise _refusal(call, f"its call for {count} prompts ended in {type(error).__name__}: {error}") from error
    if len(seen) < 2:
        raise _refusal(call, "it does not call its transformer, or makes latents by another way than prepare_latents")
    return seen[-1], seen[0]


def _find_latents(
    call: PipelineCall, arguments: dict[str, Any], prepared: Any
) -> tuple[str, LatentForm, int, torch.Tensor]:
    parts = [prepared] if isinstance(prepared, torch.Tensor) else list(prepared)
    forms = [LatentForm(frame, rows) for frame in (False, True) for rows in (False, True)]
    for place, part in enumerate(parts):
        if not isinstance(part, torch.Tensor) or not part.is_floating_point() or part.dim() < 3:
            continue
        for form in forms:
            for name, value in arguments.items():
                if _same(value, form.wrap(part), exact_dtype=False):
                    return name, form, place, part
    seen = ", ".join(f"{name} {_described(value)}" for name, value in arguments.items())
    raise _refusal(call, f"with guidance off no argument of its transformer is the latents; seen: {seen}")


def _record(call: PipelineCall, noise: torch.Tensor, latents: str, form: LatentForm, transformer: Any) -> _Recording:
    record = _Recording([], [], [], [], [])
    scheduler = call.pipeline.scheduler
    own_step: Callable[..., Any] = scheduler.step
    index = [0]

    def denoise(arguments: dict[str, Any]) -> Any:
        if len(record.arguments) > index[0]:
            raise _refusal(call, "with guidance off it calls its transformer twice a step; expected one call")
        value = arguments[latents]
        cast = [row.to(transformer.dtype) for row in value] if form.rows else value.to(transformer.dtype)
        record.arguments.append(arguments | {latents: cast})
        returned = transformer(**record.arguments[-1])
        record.outputs.append(returned)
        return returned

    def step(model_output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        if len(record.arguments) != index[0] + 1:
            raise _refusal(call, "its scheduler steps without a call of the transformer")
        record.model_outputs.append(model_output.clone())
        record.samples.append(sample.clone())
        record.sigmas.append(float(scheduler.sigmas[index[0]]))
        following = own_step(model_output.float(), scheduler.timesteps[index[0]], sample, return_dict=False)[0]
        index[0] += 1
        if index[0] == _STEPS:
            raise Finished
        return following

    call(list(_PROMPTS[: len(noise)]), _STEPS, 1.0, denoise=denoise, step=step, noise=noise)
    if len(record.samples) != _STEPS:
        raise _refusal(call, f"of {_STEPS} steps it made {len(record.samples)}")
    return record


def _find_timestep(call: PipelineCall, record: _Recording, latents: str) -> tuple[str, float, float]:
    names = list(record.arguments[0])
    changing = [
        name for name in names
        if name != latents and not all(_same(record.arguments[0][name], other[name]) for other in record.arguments)
    ]
    scalars = [name for name in changing if _number(record.arguments[0][name]) is not None]
    if not scalars:
        raise _refusal(call, f"no argument of its transformer follows the timestep; changing ones: {changing}")
    timestep = scalars[0]
    others = [name for name in changing if name != timestep]
    if others:
        raise _refusal(
            call, f"besides {latents} and {timestep} a third argument, {others[0]}, changes from step to step"
        )
    values = [_number(arguments[timestep]) for arguments in record.arguments]
    slope = (values[-1] - values[0]) / (record.sigmas[-1] - record.sigmas[0])
    # Removes float32 rounding: the slopes in use are 1000, 1 and -1.
    slope = round(slope, 3) or slope
    offset = round(values[0] - slope * record.sigmas[0], 3)
    for value, sigma in zip(values, record.sigmas, strict=True):
        if abs(offset + slope * sigma - value) > _LINEAR * max(abs(slope), abs(offset)):
            raise _refusal(
                call, f"{timestep} is not linear in sigma: {values} at sigmas {record.sigmas}"
            )
    return timestep, offset, slope


def _find_sign(call: PipelineCall, record: _Recording) -> tuple[LatentForm, int]:
    raw, sample = record.outputs[0][0], record.samples[0]
    rows = isinstance(raw, (list, tuple))
    stacked = torch.stack(list(raw)) if rows else raw
    frame = stacked.dim() == sample.dim() + 1 and stacked.shape[2] == 1
    flat = stacked.squeeze(2) if frame else stacked
    half = flat.dim() == sample.dim() and flat.shape[1] == 2 * sample.shape[1]
    form = LatentForm(frame, rows, half)
    for sign in (1, -1):
        reached = [
            torch.equal(sign * form.unwrap(returned[0]).to(given.dtype), given)
            for returned, given in zip(record.outputs, record.model_outputs, strict=True)
        ]
        if all(reached):
            return form, sign
    raise _refusal(
        call, f"what reaches its scheduler, {_described(record.model_outputs[0])}, is neither the transformer's output "
        f"nor its negative, {_described(raw)}"
    )


def _refusal(call: PipelineCall, what: str) -> ValueError:
    return ValueError(f"model: {call.name} cannot be fine-tuned here: {what}.")


def _same(one: Any, other: Any, *, exact_dtype: bool = True) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape:
            return False
        return torch.equal(one, other if exact_dtype else other.to(one.dtype))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(
            _same(a, b, exact_dtype=exact_dtype) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return bool(one == other)


def _rows(value: Any) -> int | None:
    if isinstance(value, torch.Tensor):
        return len(value) if value.dim() else None
    return len(value) if isinstance(value, (list, tuple)) else None


def _number(value: Any) -> float | None:
    """The value of a tensor that holds one number, perhaps once a row."""
    if not isinstance(value, torch.Tensor) or value.dim() > 1 or not value.numel():
        return None
    values = value.double().flatten()
    return values[0].item() if bool((values == values[0]).all()) else None


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    if isinstance(value, (list, tuple)) and value:
        return f"{len(value)} of {_described(value[0])}"
    return type(value).__name__
