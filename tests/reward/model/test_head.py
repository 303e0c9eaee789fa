import itertools
import math

import pytest
import torch

from reward import HyperAlign, HyperAlignConfig
from reward.model import lorentz
from reward.model.head import _inverse_smooth_bound, smooth_bound

DIM = 16
MODULATIONS = ["none", "cosine", "radii", "geometry"]


def head(seed: int = 0, spread: float = 0.3, **fields) -> HyperAlign:
    torch.manual_seed(seed)
    model = HyperAlign(HyperAlignConfig(embed_dim=DIM, adapter_hidden=8, **fields))
    model.calibrate(*features(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def features(seed: int = 0, count: int = 32, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(2, count, DIM, generator=generator, dtype=dtype)
    return 7 * (shared + own), 3 * (shared - 0.5 * own)


@pytest.mark.parametrize("modulation, adapter", list(itertools.product(MODULATIONS, [True, False])))
@pytest.mark.parametrize("radius", ["norm", "learned"])
def test_untrained_score_is_the_cosine(modulation, adapter, radius):
    model = head(spread=0.0, modulation=modulation, adapter=adapter, radius=radius)
    image, text = features(1)
    output = model(image, text)
    torch.testing.assert_close(output.score, torch.nn.functional.cosine_similarity(image, text))
    assert torch.equal(output.score, output.similarity)


@pytest.mark.parametrize("radius", ["norm", "learned"])
@pytest.mark.parametrize("seed", range(3))
def test_score_follows_the_formula(seed, radius):
    model = head(seed, radius=radius)
    image, text = features(seed + 1)
    output = model(image, text)
    u_image, u_text = model.adapt(image, text)
    torch.testing.assert_close(output.similarity, torch.nn.functional.cosine_similarity(u_image, u_text))

    def lift(u, a0, norm, power, depth):
        factor = 1.0
        if radius == "learned":
            factor = torch.exp(2 * torch.tanh(4 * (u / norm) @ depth.weight[0] / 2))  # 4: sqrt(DIM)
        rho = smooth_bound(a0.sigmoid() * 2 * (u.norm(dim=-1) / norm) ** power * factor, 0.15, 2.5)
        return rho[:, None] * u / u.norm(dim=-1, keepdim=True)

    v_image = lift(u_image, model.image_scale, model.image_norm, model.image_power, model.image_depth)
    v_text = lift(u_text, model.text_scale, model.text_norm, model.text_power, model.text_depth)
    for rho, v in zip(model.radii(image, text), (v_image, v_text), strict=True):
        torch.testing.assert_close(rho, v.norm(dim=-1))
    torch.testing.assert_close(output.distance, lorentz.distance(v_text, v_image))
    torch.testing.assert_close(output.exterior_angle, lorentz.exterior_angle(v_text, v_image))
    torch.testing.assert_close(output.half_aperture, lorentz.half_aperture(v_text))
    torch.testing.assert_close(output.margin, output.half_aperture - output.exterior_angle)
    z = torch.stack((output.distance, output.exterior_angle / math.pi, output.half_aperture / (math.pi / 2)), -1)
    alpha, beta, gamma = model.modulation((z - model.z_mean) / model.z_std)
    torch.testing.assert_close(output.score, gamma * (alpha * output.similarity + beta))
    assert all(value.shape == (32,) and torch.isfinite(value).all() for value in output)


def test_the_flat_modulation_sees_cosine_and_log_radii():
    model = head(modulation="radii", radius="learned")
    image, text = features(1)
    output = model(image, text)
    z = torch.stack((output.similarity, *(rho.log() for rho in model.radii(image, text))), -1)
    alpha, beta, gamma = model.modulation((z - model.z_mean) / model.z_std)
    torch.testing.assert_close(output.score, gamma * (alpha * output.similarity + beta))


def test_a_learned_radius_adds_two_vectors_and_nothing_else():
    plain, learned = (HyperAlign(HyperAlignConfig(embed_dim=DIM, radius=r)).state_dict() for r in ("norm", "learned"))
    assert {k: tuple(v.shape) for k, v in learned.items() if k not in plain} == {
        "image_depth.weight": (1, DIM), "text_depth.weight": (1, DIM)
    }  # fmt: skip
    assert plain.keys() < learned.keys()


@pytest.mark.parametrize("radius", ["norm", "learned"])
def test_pairs_broadcast(radius):
    for modulation in MODULATIONS:
        model = head(modulation=modulation, radius=radius)
        image, text = features(1)
        matrix = model(image[:4, None], text[None, :5]).score
        assert matrix.shape == (4, 5)
        torch.testing.assert_close(matrix.diagonal(), model(image[:4], text[:4]).score, rtol=1e-5, atol=1e-6)


def test_curvature_is_redundant():
    image, text = features(1)
    flat, curved = head(curvature=1.0), head(curvature=4.0)
    a, b = flat(image, text), curved(image, text)
    torch.testing.assert_close(a.score, b.score)
    torch.testing.assert_close(a.distance, 2 * b.distance)


@pytest.mark.parametrize("modulation", ["cosine", "radii", "geometry"])
def test_a_pair_never_depends_on_its_batch(modulation):
    model = head(modulation=modulation, radius="learned")
    image, text = features(1)
    together = model(image, text).score
    alone = torch.stack([model(image[i : i + 1], text[i : i + 1]).score[0] for i in range(32)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    order = torch.randperm(32)
    torch.testing.assert_close(model(image[order], text[order]).score, together[order], rtol=1e-5, atol=1e-6)


def test_calibration_sets_mean_radii_and_z():
    model = head(spread=0.0)
    image, text = features(0)
    rho_image, rho_text = model.radii(image, text)
    assert rho_image.mean().item() == pytest.approx(1.0, abs=0.05)
    assert rho_text.mean().item() == pytest.approx(0.3, abs=0.05)
    # the radius carries information: it is not a constant
    assert rho_text.std() > 0.02
    output = model(image, text)
    z = torch.stack((output.distance, output.exterior_angle / math.pi, output.half_aperture / (math.pi / 2)), -1)
    torch.testing.assert_close(model.z_mean, z.mean(0))
    torch.testing.assert_close(model.z_std, z.std(0, correction=0))


def test_geometry_is_no_function_of_the_cosine():
    from reward.training.train import spearman

    output = head(spread=0.0)(*features(3, count=400))
    for value in (output.distance, output.exterior_angle, output.half_aperture):
        assert abs(spearman(output.similarity, value)) < 0.98


def test_smooth_bound():
    radius = torch.linspace(0, 50, 2001, dtype=torch.float64)
    rho = smooth_bound(radius, 0.15, 2.5)
    assert (rho.diff() >= 0).all() and rho.min() > 0.15 and rho.max() < 2.5 + 1e-9
    inside = (radius > 0.7) & (radius < 2)
    torch.testing.assert_close(rho[inside], radius[inside], atol=1e-2, rtol=0)
    for value in (0.2, 0.3, 1.0, 2.0):
        inverse = torch.tensor(_inverse_smooth_bound(value, 0.15, 2.5), dtype=torch.float64)
        assert smooth_bound(inverse, 0.15, 2.5).item() == pytest.approx(value)


def edge_features() -> dict[str, torch.Tensor]:
    base = features(5, count=1)[0][0]
    return {
        "plain": base,
        "opposite": -base,
        "zero": torch.zeros(DIM),
        "tiny": 1e-15 * base,
        "huge": 1e6 * base,
        "other": features(6, count=1)[0][0],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("image, text", list(itertools.product(edge_features(), edge_features())))
@pytest.mark.parametrize(
    "fields",
    [{"spread": 0.0}, {}, {"radius": "learned"}, {"radius": "learned", "modulation": "radii"}],
    ids=["untrained", "trained", "learned", "radii"],
)
def test_values_and_gradients_are_finite_at_edges(image, text, dtype, fields):
    model = head(**fields)
    a, b = (edge_features()[n].to(dtype)[None].clone().requires_grad_() for n in (image, text))
    output = model(a, b)
    assert all(torch.isfinite(value).all() for value in output)
    sum(value.sum() for value in output).backward()
    for tensor in (a, b, *model.parameters()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("fields", [{}, {"radius": "learned"}, {"radius": "learned", "modulation": "radii"}])
def test_gradients_agree_with_finite_differences(fields):
    model = head(**fields).double()
    image, text = (f.requires_grad_() for f in features(2, count=3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda i, t: model(i, t).score, (image, text))


@pytest.mark.parametrize("radius", ["norm", "learned"])
def test_every_parameter_gets_a_gradient(radius):
    model = head(radius=radius)
    model(*features(1)).score.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_autocast_and_bfloat16_weights_leave_the_geometry_precise():
    model = head()
    image, text = features(1)
    expected = model(image, text).score
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(image, text).score, expected)
    low = model.to(torch.bfloat16)(image, text)
    assert low.score.dtype == torch.float32
    torch.testing.assert_close(low.score, expected, rtol=0.1, atol=0.1)


def test_ablations_are_configs():
    image, text = features(1)
    constants = head(modulation="none", adapter=False)(image, text)
    assert constants.alpha.std() < 1e-6 and constants.gamma.std() < 1e-6
    cosine = head(modulation="cosine", adapter=False)
    twin = cosine(torch.cat([image, 2 * image]), torch.cat([text, text])).score
    torch.testing.assert_close(twin[:32], twin[32:])  # blind to the radius
    geometry = head(modulation="geometry", adapter=False)
    assert not torch.allclose(geometry(image, text).score, geometry(2 * image, text).score, atol=1e-3)


def test_bad_shapes():
    model = head()
    image, text = features(1)
    with pytest.raises(ValueError, match=r"Expected image_features of shape \(..., 16\) but got \(32, 8\)"):
        model(image[:, :8], text)
    with pytest.raises(ValueError, match="Expected as many image features as text features"):
        model(image[:3], text[:2])
    with pytest.raises(ValueError, match="Expected at least one pair of features to calibrate on"):
        model.calibrate(image[:0], text[:0])
    with pytest.raises(ValueError, match="Expected finite, non-zero features to calibrate on"):
        model.calibrate(0 * image, text)


def test_calibration_spreads_nearly_constant_norms_and_leaves_wide_ones(seed=0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(500, 8, generator=generator), dim=-1)
    narrow = direction * (1 + 0.03 * torch.randn(500, 1, generator=generator))
    wide = direction * torch.exp(torch.randn(500, 1, generator=generator))
    model = HyperAlign(HyperAlignConfig(embed_dim=8, radius_spread=0.3))
    model.calibrate(narrow, wide)
    assert model.image_power == pytest.approx(0.3 / narrow.norm(dim=-1).log().std(correction=0).item(), rel=1e-4)
    assert model.text_power == 1
    radius = model.radii(narrow, wide)[0].detach()
    assert radius.std() > 0.2 and abs(radius.mean() - 1.0) < 0.1
    # Spread 0 and constant norms leave everything as it was.
    plain = HyperAlign(HyperAlignConfig(embed_dim=8, radius_spread=0.0))
    plain.calibrate(narrow, wide)
    assert plain.image_power == plain.text_power == 1
    model.calibrate(direction, direction)
    assert model.image_power == 20 and model.radii(direction, direction)[0].std() < 1e-4
