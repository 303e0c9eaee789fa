import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from reward.model import lorentz

CASES = json.loads((Path(__file__).parents[2] / "data" / "geometry.json").read_text())["cases"]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
DTYPES = list(TOLERANCE)
BASE = torch.tensor([0.3, -0.2, 0.5, 0.1, 0.0])


def tangents(seed: int, dtype: torch.dtype, count: int = 64, dim: int = 8) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    radius = torch.empty(3, count, 1, dtype=torch.float64).uniform_(0.05, 3, generator=generator)
    v = torch.randn(3, count, dim, dtype=torch.float64, generator=generator)
    return (radius * v / v.norm(dim=-1, keepdim=True)).to(dtype).unbind(0)


def test_there_are_120_reference_cases():
    assert len(CASES) == 120


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=[str(i) for i in range(len(CASES))])
def test_reference_values(case, dtype):
    tolerance = TOLERANCE[dtype]
    c = case["curvature"]
    text, image = (torch.tensor(case[k], dtype=dtype) for k in ("tangent_text", "tangent_image"))
    assert lorentz.distance(text, image, c).item() == pytest.approx(case["distance"], rel=tolerance, abs=1e-300)
    assert lorentz.exterior_angle(text, image, c).item() == pytest.approx(case["exterior_angle"], abs=tolerance)
    aperture = lorentz.half_aperture(text, c, case["min_radius"]).item()
    assert aperture == pytest.approx(case["half_aperture"], abs=tolerance)
    for v, name in ((text, "text"), (image, "image")):
        space = torch.tensor(case[f"point_{name}_space"], dtype=torch.float64)
        x = lorentz.exp_map0(v, c)
        assert (x.double() - space).norm() <= tolerance * space.norm()
        assert (lorentz.log_map0(x, c) - v).norm() <= tolerance * v.norm()
        time = case[f"point_{name}_time"]
        assert lorentz.time_component(x, c).item() == pytest.approx(time, rel=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(5))
class TestProperties:
    def test_distance_is_a_metric(self, seed, dtype):
        a, b, c = tangents(seed, dtype)
        ab, bc, ac = lorentz.distance(a, b), lorentz.distance(b, c), lorentz.distance(a, c)
        assert torch.equal(lorentz.distance(a, a), torch.zeros_like(ab))
        torch.testing.assert_close(ab, lorentz.distance(b, a))
        assert (ac <= ab + bc + 1e-5).all()
        assert (ab > 0).all()

    def test_distance_agrees_with_the_textbook_form(self, seed, dtype):
        a, b, _ = (v.double() for v in tangents(seed, dtype))
        c = 0.7
        x, y = lorentz.exp_map0(a, c), lorentz.exp_map0(b, c)
        textbook = torch.acosh(-c * lorentz.lorentz_inner(x, y, c)) / math.sqrt(c)
        torch.testing.assert_close(lorentz.distance(a, b, c), textbook, rtol=1e-7, atol=1e-7)

    def test_angle_agrees_with_the_textbook_form(self, seed, dtype):
        a, b, _ = (v.double() for v in tangents(seed, dtype))
        c = 1.3
        x, y = lorentz.exp_map0(a, c), lorentz.exp_map0(b, c)
        inner = c * lorentz.lorentz_inner(x, y, c)
        above = lorentz.time_component(y, c) + lorentz.time_component(x, c) * inner
        cosine = above / (x.norm(dim=-1) * (inner.square() - 1).sqrt())
        torch.testing.assert_close(lorentz.exterior_angle(a, b, c).cos(), cosine, rtol=1e-6, atol=1e-6)

    def test_exterior_angle_closes_the_triangle(self, seed, dtype):
        """Hyperbolic triangle O, T, I: the sum of its angles is below pi."""
        a, b, _ = tangents(seed, dtype)
        at_t = math.pi - lorentz.exterior_angle(a, b)
        at_i = math.pi - lorentz.exterior_angle(b, a)
        at_origin = torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1))
        assert (at_t + at_i + at_origin < math.pi + 1e-4).all()

    def test_equal_radii_see_each_other_beyond_a_right_angle(self, seed, dtype):
        a, b, _ = tangents(seed, dtype)
        b = b / b.norm(dim=-1, keepdim=True) * a.norm(dim=-1, keepdim=True)
        assert (lorentz.exterior_angle(a, b) >= math.pi / 2 - 1e-3).all()

    def test_cones_are_nested(self, seed, dtype):
        """If I lies in the cone of T, so does everything in the cone of I (Ganea et al. 2018)."""
        generator = torch.Generator().manual_seed(seed)
        text = torch.tensor([0.5, 0, 0], dtype=dtype)
        # 200 candidates each, close to the axis, so that many are inside
        def cloud(low, high):
            v = torch.randn(200, 3, generator=generator, dtype=torch.float64) * 0.15
            v[:, 0] = 1
            radius = torch.empty(200, 1, dtype=torch.float64).uniform_(low, high, generator=generator)
            return (radius * v / v.norm(dim=-1, keepdim=True)).to(dtype)

        middle, far = cloud(0.8, 1.2), cloud(2, 3)

        def inside(apex, point):
            return lorentz.exterior_angle(apex, point) <= lorentz.half_aperture(apex)

        chain = inside(text, middle)[:, None] & inside(middle[:, None], far[None])
        assert chain.any()
        assert (inside(text, far)[None] | ~chain).all()

    def test_curvature_and_a_common_scale_are_redundant(self, seed, dtype):
        a, b, _ = tangents(seed, dtype)
        torch.testing.assert_close(2 * lorentz.distance(a / 2, b / 2, 4.0), lorentz.distance(a, b))
        torch.testing.assert_close(lorentz.exterior_angle(a / 2, b / 2, 4.0), lorentz.exterior_angle(a, b))
        torch.testing.assert_close(lorentz.half_aperture(a / 2, 4.0), lorentz.half_aperture(a))

    def test_log_inverts_exp(self, seed, dtype):
        a, _, _ = tangents(seed, dtype)
        torch.testing.assert_close(lorentz.log_map0(lorentz.exp_map0(a, 0.5), 0.5), a)

    def test_points_lie_on_the_hyperboloid(self, seed, dtype):
        a, _, _ = tangents(seed, dtype, dim=4)
        x = lorentz.exp_map0(0.3 * a, 2.0)
        torch.testing.assert_close(lorentz.lorentz_inner(x, x, 2.0), torch.full_like(x[:, 0], -0.5))


EDGES = {
    "point": BASE,
    "opposite": -BASE,
    "zero": 0 * BASE,
    "denormal": BASE * 1e-18,
    "tiny": BASE * 1e-6,
    "far": BASE * 30 / BASE.norm(),
    "far opposite": -BASE * 30 / BASE.norm(),
    "beyond float32's sinh": BASE * 150 / BASE.norm(),
    "axis": torch.eye(5)[4],
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("text, image", list(itertools.product(EDGES, EDGES)))
def test_values_and_gradients_are_finite(text, image, dtype):
    for c in (0.1, 1.0, 4.0):
        for function in (lorentz.distance, lorentz.exterior_angle, lambda t, i, c: lorentz.half_aperture(t, c)):
            a = EDGES[text].to(dtype).clone().requires_grad_()
            b = EDGES[image].to(dtype).clone().requires_grad_()
            value = function(a, b, c)
            assert torch.isfinite(value)
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            for gradient in torch.autograd.grad(value, (a, b), allow_unused=True):
                assert gradient is None or torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", [n for n in EDGES if "beyond" not in n])
def test_maps_have_finite_gradients(name):
    for function, v in ((lorentz.exp_map0, EDGES[name]), (lorentz.log_map0, lorentz.exp_map0(EDGES[name]))):
        v = v.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(v).sum(), v)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("seed", range(3))
def test_gradients_agree_with_finite_differences(seed):
    a, b, _ = (v[:4].clone().requires_grad_() for v in tangents(seed, torch.float64, dim=3))
    assert torch.autograd.gradcheck(lorentz.distance, (a, b))
    assert torch.autograd.gradcheck(lorentz.exterior_angle, (a, b))
    assert torch.autograd.gradcheck(lorentz.half_aperture, (a,))
    assert torch.autograd.gradcheck(lorentz.exp_map0, (a * 1e-3,))
    assert torch.autograd.gradcheck(lorentz.log_map0, (a * 1e-3,))
    assert torch.autograd.gradcheck(lorentz.lorentz_inner, (a, b))


def test_gradient_at_equal_radii_keeps_the_radial_slope():
    """|rho_I - rho_T| would have slope 0 there."""
    a = torch.tensor([1.0, 0, 0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0, 1.0, 0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lorentz.exterior_angle, (a, b))
    assert torch.autograd.gradcheck(lorentz.distance, (a, b))


def test_far_points_match_their_asymptotes():
    """On one ray d is the difference of radii at any radius, and the angle is 0 outwards, pi inwards."""
    axis = torch.eye(4)[0]
    for near, far in ((20.0, 30.0), (100.0, 150.0)):
        assert lorentz.distance(near * axis, far * axis).item() == pytest.approx(far - near, rel=1e-6)
        assert lorentz.distance(near * axis, -far * axis).item() == pytest.approx(far + near, rel=1e-6)
    assert lorentz.exterior_angle(20 * axis, 30 * axis).item() == pytest.approx(0)
    assert lorentz.exterior_angle(30 * axis, 20 * axis).item() == pytest.approx(math.pi)


def test_bfloat16_keeps_distance_and_angle():
    a = torch.tensor([0.1, 0, 0], dtype=torch.bfloat16)
    b = torch.tensor([0, 0.1, 0], dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lorentz.distance(a, b).item() == pytest.approx(0.1 * math.sqrt(2), rel=1e-2)
        assert lorentz.exterior_angle(a, b).item() == pytest.approx(2.36, abs=0.02)


def test_conventions_where_there_is_no_value():
    zero, v = 0 * BASE, BASE
    assert lorentz.exterior_angle(v, v).item() == 0
    assert lorentz.exterior_angle(zero, v).item() == 0
    assert lorentz.exterior_angle(v, zero).item() == pytest.approx(math.pi)
    assert lorentz.half_aperture(zero).item() == pytest.approx(math.pi / 2)


def test_broadcasting_and_learned_curvature():
    c = torch.tensor(0.5, requires_grad=True)
    a, b, _ = tangents(0, torch.float32, count=3)
    assert lorentz.distance(a[:, None], b[None, :], c).shape == (3, 3)
    lorentz.distance(a, b, c).sum().backward()
    assert torch.isfinite(c.grad) and c.grad != 0


@pytest.mark.parametrize("curvature", [0.0, -1.0, math.nan, math.inf])
def test_bad_curvature(curvature):
    with pytest.raises(ValueError, match="Expected a positive finite curvature"):
        lorentz.distance(BASE, BASE, curvature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("curvature", [0.3, 1.0, 4.0])
def test_all_at_once_is_what_each_says(curvature, dtype):
    torch.manual_seed(0)
    v_text, v_image = (torch.randn(40, 5, dtype=dtype) * torch.rand(40, 1, dtype=dtype) * 3 for _ in range(2))
    v_image[0], v_text[1], v_image[2], v_text[2], v_image[3] = v_text[0], 0, 0, 0, 2 * v_text[3]
    results = []
    for at_once in (True, False):
        text, image = v_text.clone().requires_grad_(), v_image.clone().requires_grad_()
        if at_once:
            (rho_t, e_t), (rho_i, e_i) = (lorentz._polar(v, curvature**0.5) for v in (text, image))
            found = lorentz.pair_geometry(rho_t, e_t, rho_i, e_i, min_radius=0.2)
        else:
            found = (
                lorentz.distance(text, image, curvature) * curvature**0.5,
                lorentz.exterior_angle(text, image, curvature),
                lorentz.half_aperture(text, curvature, min_radius=0.2),
            )
        sum(part.sum() for part in found).backward()
        results.append((*found, text.grad, image.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
