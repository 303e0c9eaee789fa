import math

import numpy as np
import pytest
import torch

from reward.explanation.poincare_plane import ConePlane, to_disc
from reward.model import lorentz

CASES = [(0.15, 0.2, 3.0), (0.3, 1.0, 0.4), (0.9, 1.0, 1.2), (2.5, 2.5, 0.01), (2.4, 0.2, 2.0), (0.5, 2.5, math.pi)]


def disc_distance(a, b):
    """Distance in the Poincare disc, the textbook formula."""
    gap = ((a - b) ** 2).sum()
    return math.acosh(1 + 2 * gap / ((1 - (a**2).sum()) * (1 - (b**2).sum())))


def plane_of(text_radius, image_radius, between, k=0.1):
    return ConePlane(text_radius, image_radius, between, math.asin(min(1, 2 * k / math.sinh(text_radius))))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("curvature", [1.0, 0.3, 4.0])
def test_the_disc_keeps_distance_and_angle_of_a_space_of_any_dimension(case, curvature):
    rho_t, rho_i, between = case
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0]
    text = basis[:, 0] * rho_t / math.sqrt(curvature)
    image = basis @ [math.cos(between), math.sin(between)] * rho_i / math.sqrt(curvature)
    v_text, v_image = torch.tensor(text), torch.tensor(image)
    plane = plane_of(*case)
    phi, distance = plane.exterior_angle_and_distance()
    assert phi == pytest.approx(lorentz.exterior_angle(v_text, v_image, curvature).item(), abs=1e-6)
    expected = lorentz.distance(v_text, v_image, curvature).item() * math.sqrt(curvature)
    assert distance == pytest.approx(expected, rel=1e-9)
    assert disc_distance(plane.text, plane.image) == pytest.approx(expected, rel=1e-6)
    assert plane.half_aperture == pytest.approx(lorentz.half_aperture(v_text, curvature).item(), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_drawn_way_ends_at_the_image_and_leaves_at_the_drawn_angle(case):
    plane = plane_of(*case)
    way = plane.geodesic_to_image(2000)
    assert np.allclose(way[0], plane.text, atol=1e-9) and np.allclose(way[-1], plane.image, atol=1e-7)
    first = way[1] - way[0]
    phi, _ = plane.exterior_angle_and_distance()
    assert math.atan2(first[1], first[0]) == pytest.approx(phi, abs=5e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_edge_of_the_cone_is_at_the_aperture_everywhere(case):
    plane = plane_of(*case)
    for x, y in plane.ray(plane.half_aperture, length=3.0, points=7)[1:]:
        radius = 2 * math.atanh(math.hypot(x, y))
        on_edge = ConePlane(plane.text_radius, radius, math.atan2(y, x), plane.half_aperture)
        assert on_edge.exterior_angle_and_distance()[0] == pytest.approx(plane.half_aperture, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_in_the_drawn_cone_just_where_its_angle_is_below_the_aperture(case):
    from matplotlib.path import Path

    cone = plane_of(*case)
    outline = Path(cone.cone_outline())
    rng = np.random.default_rng(1)
    for radius, angle in zip(rng.uniform(0.1, 3, 200), rng.uniform(0, math.pi, 200), strict=True):
        image = ConePlane(cone.text_radius, radius, angle, cone.half_aperture)
        phi, distance = image.exterior_angle_and_distance()
        if abs(phi - cone.half_aperture) > 0.02 and distance > 0.02:
            assert outline.contains_point(image.image) == (phi < cone.half_aperture)


def test_the_origin_is_the_centre():
    assert to_disc(np.array([1.0, 0.0, 0.0])).tolist() == [0.0, 0.0]
