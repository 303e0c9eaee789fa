"""The hyperboloid and its entailment cones: pure functions on tensors.

Convention: the space has curvature -c with c > 0, and the argument `curvature` is the positive c. Points lie on
H^d = {x : <x,x>_L = -1/c, x_0 > 0}. Only their space parts x are stored; x_0 = sqrt(1/c + |x|^2). Tangent vectors v
are at the origin, and rho = sqrt(c)|v| is the hyperbolic radius (no unit). The last dimension is D; all dimensions
before it broadcast.

Precision: every function promotes its input to at least float32 and turns autocast off. In bfloat16, distance and angle
would be 0 at rho = 0.1. The formulas avoid cancellation. Exponentials are only taken of numbers <= 0, so nothing
overflows at any radius. The exception is `exp_map0`, whose result itself exceeds float32 at rho > 88.

Gradients: where a formula has no derivative (T = I, a zero vector, aligned directions) the gradient is 0, never NaN.
`torch.where` does not mask a NaN gradient, so the code first replaces the inner value by a harmless one.

Sources: law of cosines on the hyperboloid; cones as in Ganea et al. 2018 (arXiv:1804.01882) and MERU
(arXiv:2304.09172). The docstring of each function gives the exact form.
"""

import functools
import math

import torch
from torch import Tensor

Curvature = float | Tensor


def _float32_up(function):
    """Run `function` on tensors promoted to at least float32, with autocast off."""

    @functools.wraps(function)
    def promoted(*args, **kwargs):
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)

        def cast(a):
            return a.to(dtype) if isinstance(a, Tensor) else a

        with torch.autocast(device_type=tensors[0].device.type, enabled=False):
            return function(*map(cast, args), **{k: cast(v) for k, v in kwargs.items()})

    return promoted


def _sqrt_curvature(curvature: Curvature) -> Curvature:
    if isinstance(curvature, Tensor):
        return curvature.sqrt()
    if not (math.isfinite(curvature) and curvature > 0):
        raise ValueError(f"Expected a positive finite curvature c (the space has curvature -c) but got {curvature}")
    return math.sqrt(curvature)


def _threshold(x: Tensor) -> float:
    """A square below this counts as 0. Its reciprocal still fits the dtype, also after one more product."""
    return torch.finfo(x.dtype).tiny * 1e8


def _sqrt0(square: Tensor) -> Tensor:
    """Square root whose value and gradient are exactly 0 at 0."""
    positive = square > _threshold(square)
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def _norm0(v: Tensor) -> Tensor:
    """|v| over the last dimension, with gradient 0 at v = 0."""
    return _sqrt0(v.square().sum(-1))


def _polar(v: Tensor, root: Curvature) -> tuple[Tensor, Tensor]:
    """Radius rho = sqrt(c) |v| and unit direction (the zero vector at v = 0)."""
    length = _norm0(v)
    return root * length, v / torch.where(length > 0, length, 1.0).unsqueeze(-1)


def _half_square(apart: Tensor) -> Tensor:
    """|a|^2 / 2 over the last dimension. For a difference of two unit vectors it is 1 - cos, without cancellation."""
    return apart.square().sum(-1) / 2


def _log0(x: Tensor) -> tuple[Tensor, Tensor]:
    """log x for x >= 0, and a mask of where x counts as positive.

    Elsewhere the value is -1e4, lower than any logarithm of a float, and the gradient is 0.
    """
    positive = x > _threshold(x)
    return torch.where(positive, torch.where(positive, x, 1.0).log(), -1e4), positive


def _one_minus_exp(x: Tensor) -> Tensor:
    """1 - exp(-x) without cancellation."""
    return -torch.expm1(-x)


def _fade(rho: Tensor) -> Tensor:
    """2 sinh(rho) exp(-rho)."""
    return _one_minus_exp(2 * rho)


@_float32_up
def exp_map0(v: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Exponential map at the origin: x = sinh(rho)/rho * v.

    Args:
        v: tangent vectors at the origin, (..., D).
        curvature: c > 0.

    Returns:
        space parts of the points, (..., D); finite in float32 for rho <= 88.

    Example:
        >>> exp_map0(torch.tensor([1.0, 0.0]))
        tensor([1.1752, 0.0000])
    """
    root = _sqrt_curvature(curvature)
    square = (root * v).square().sum(-1, keepdim=True)
    near = square < 1e-4
    rho = torch.where(near, 1.0, square).sqrt()
    square = torch.where(near, square, 0.0)
    series = 1 + square / 6 * (1 + square / 20 * (1 + square / 42))
    return torch.where(near, series, torch.sinh(rho) / rho) * v


@_float32_up
def log_map0(x: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Inverse of `exp_map0`: v = asinh(r)/r * x with r = sqrt(c)|x|.

    Args:
        x: space parts of points, (..., D).
        curvature: c > 0.

    Returns:
        tangent vectors at the origin, (..., D).
    """
    root = _sqrt_curvature(curvature)
    square = (root * x).square().sum(-1, keepdim=True)
    near = square < 1e-6
    r = torch.where(near, 1.0, square).sqrt()
    square = torch.where(near, square, 0.0)
    series = 1 - square / 6 * (1 - square * 9 / 20 * (1 - square * 25 / 42))
    return torch.where(near, series, torch.asinh(r) / r) * x


@_float32_up
def time_component(x: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Time part of points: x_0 = sqrt(1/c + |x|^2).

    Args:
        x: space parts, (..., D).
        curvature: c > 0.

    Returns:
        x_0 >= 1/sqrt(c), (...).
    """
    root = _sqrt_curvature(curvature)
    return (1 / root**2 + x.square().sum(-1)).sqrt()


@_float32_up
def lorentz_inner(x: Tensor, y: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Lorentzian inner product <x,y>_L = x.y - x_0 y_0.

    Args:
        x, y: space parts, (..., D); they broadcast.
        curvature: c > 0.

    Returns:
        values <= -1/c, (...). Use `distance` for distances, because arcosh of this value cancels near x = y.
    """
    return (x * y).sum(-1) - time_component(x, curvature) * time_component(y, curvature)


@_float32_up
def distance(v_text: Tensor, v_image: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Geodesic distance between the points that two tangent vectors map to.

    d = (2/sqrt(c)) asinh sqrt( sinh^2((rho_T - rho_I)/2) + sinh(rho_T) sinh(rho_I) h / 2 ),  h = |e_T - e_I|^2 / 2.

    Both summands are computed as logarithms, so sinh^2 neither overflows nor underflows at any radius.

    Args:
        v_text, v_image: tangent vectors at the origin, (..., D); they broadcast.
        curvature: c > 0.

    Returns:
        d >= 0, (...); exactly 0, with gradient 0, where both vectors are equal.

    Example:
        >>> distance(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 3.0]))
        tensor(3.)
    """
    root = _sqrt_curvature(curvature)
    (rho_t, e_t), (rho_i, e_i) = _polar(v_text, root), _polar(v_image, root)
    return _distance(rho_t, rho_i, _half_square(e_t - e_i), _fade(rho_t), _fade(rho_i)) / root


def _distance(rho_t: Tensor, rho_i: Tensor, h: Tensor, fade_t: Tensor, fade_i: Tensor) -> Tensor:
    """sqrt(c) d from the radii, `_half_square` of e_I - e_T, and `_fade` of the radii."""
    gap = (rho_t - rho_i).abs()
    radial = _one_minus_exp(gap) / 2
    # the term is squared below, so with this floor it is always the smaller summand
    log_radial = radial.clamp(min=_threshold(radial)).log()
    log_across, across_apart = _log0(fade_t * fade_i * h / 8)
    apart = (radial > _threshold(radial)) | across_apart
    # the logarithm of asinh's argument
    log_y = torch.logaddexp(gap + 2 * log_radial, rho_t + rho_i + log_across) / 2
    log_y = torch.where(apart, log_y, 0.0)
    large = log_y > 0
    log_large = log_y.clamp(min=0)
    asinh_large = log_large + torch.log1p((1 + torch.exp(-2 * log_large)).sqrt())
    # not clamp(max=0), whose gradient is 0 at 0
    asinh_small = torch.asinh(torch.exp(torch.where(large, 0.0, log_y)))
    return 2 * torch.where(apart, torch.where(large, asinh_large, asinh_small), 0.0)


@_float32_up
def exterior_angle(v_text: Tensor, v_image: Tensor, curvature: Curvature = 1.0) -> Tensor:
    """Exterior angle at T: between the geodesic from the origin through T, continued beyond T, and the one from T to I.

    phi = atan2( s sinh(rho_I), sinh(rho_I - rho_T) - h cosh(rho_T) sinh(rho_I) ),
    s = |e_I - (e_T.e_I) e_T|, h = |e_T - e_I|^2 / 2. The code multiplies both arguments by exp(-rho_T - rho_I).

    The formula follows from the law of cosines and agrees with MERU. The formula in HyperAlign's summary is misprinted:
    it contains sqrt(c^2 - 1) and <T,I> + 1 and is undefined for c <= 1.

    Args:
        v_text, v_image: tangent vectors at the origin, (..., D); they broadcast.
        curvature: c > 0.

    Returns:
        phi in [0, pi] radians, (...). It is pi in the direction of the origin. phi is not defined at T = I and at
        T = 0; the function returns 0 there (inside every cone), with gradient 0.
    """
    root = _sqrt_curvature(curvature)
    (rho_t, e_t), (rho_i, e_i) = _polar(v_text, root), _polar(v_image, root)
    return _angle(rho_t, e_t, rho_i, e_i - e_t, _half_square(e_t - e_i), torch.exp(-rho_t), _fade(rho_i))


def _angle(
    rho_t: Tensor, e_t: Tensor, rho_i: Tensor, apart: Tensor, h: Tensor, decay_t: Tensor, fade_i: Tensor
) -> Tensor:
    """phi from the radii, e_T, apart = e_I - e_T, its `_half_square` h, exp(-rho_T) and `_fade` of rho_I."""
    # e_T.e_I = 1 - h, so this is e_I - (e_T.e_I) e_T without cancellation near T = I; it is exactly 0 at T = I
    s = _norm0(apart + h.unsqueeze(-1) * e_t)
    gap = rho_i - rho_t
    square_t = decay_t.square()
    # sinh(gap) exp(-rho_t - rho_i): each branch only has exponents <= 0 and the right gradient at gap = 0
    outward = gap >= 0
    sinh_gap = torch.where(
        outward,
        square_t * _one_minus_exp(2 * torch.where(outward, gap, 0.0)),
        torch.exp(-2 * rho_i) * torch.expm1(2 * gap.clamp(max=0)),
    ) / 2
    sinh_i = fade_i / 2
    across = s * sinh_i * decay_t
    along = sinh_gap - h * (1 + square_t) / 2 * sinh_i
    # atan2 is homogeneous, so a detached common scale changes neither value nor gradient; it prevents underflow
    scale = torch.maximum(across.abs(), along.abs()).detach()
    defined = (scale > _threshold(scale)) & (rho_t > 0)
    scale = torch.where(defined, scale, 1.0)
    across = torch.where(defined, across / scale, 0.0)
    along = torch.where(defined, along / scale, 1.0)
    return torch.where(defined, torch.atan2(across, along), 0.0)


@_float32_up
def half_aperture(v_text: Tensor, curvature: Curvature = 1.0, min_radius: float = 0.1) -> Tensor:
    """Half-aperture of the entailment cone at T: delta = arcsin(2k / sinh(rho_T)), or pi/2 where sinh(rho_T) <= 2k.

    Computed as atan2(2k, sqrt((sinh rho - 2k)(sinh rho + 2k))), scaled by exp(-rho).

    Args:
        v_text: tangent vectors at the origin, (..., D).
        curvature: c > 0.
        min_radius: k > 0; a larger k gives wider cones (0.1 in Ganea et al. and MERU).

    Returns:
        delta in (0, pi/2] radians, (...); the gradient is 0 where delta = pi/2.
    """
    rho = _sqrt_curvature(curvature) * _norm0(v_text)
    return _aperture(torch.exp(-rho), _fade(rho), min_radius)


def _aperture(decay: Tensor, fade: Tensor, min_radius: float) -> Tensor:
    """delta from exp(-rho_T) and `_fade` of rho_T."""
    opening = 2 * min_radius * decay
    sinh = fade / 2
    return torch.atan2(opening, _sqrt0(torch.relu(sinh - opening) * (sinh + opening)))


@_float32_up
def pair_geometry(
    rho_t: Tensor, e_t: Tensor, rho_i: Tensor, e_i: Tensor, min_radius: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """sqrt(c) times `distance`, `exterior_angle` and `half_aperture` of points given in polar form.

    Shared terms are computed once. The curvature enters only through the radii rho = sqrt(c) |v|.

    Args:
        rho_t, rho_i: radii, (...); they broadcast. The radius must be 0 where the direction is the zero vector.
        e_t, e_i: unit directions, (..., D).
        min_radius: k > 0, see `half_aperture`.

    Returns:
        sqrt(c) d, phi, delta, each (...).
    """
    rho_t, rho_i = torch.broadcast_tensors(rho_t, rho_i)
    apart = e_i - e_t
    h, decay_t, fade_t, fade_i = _half_square(apart), torch.exp(-rho_t), _fade(rho_t), _fade(rho_i)
    return (
        _distance(rho_t, rho_i, h, fade_t, fade_i),
        _angle(rho_t, e_t, rho_i, apart, h, decay_t, fade_i),
        _aperture(decay_t, fade_t, min_radius),
    )
