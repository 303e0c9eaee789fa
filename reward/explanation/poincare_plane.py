"""The plane through origin, text and image, exactly, as a Poincare disc.

Three points of hyperbolic space lie in a totally geodesic plane H^2 (here the origin's: the span of the two tangent
vectors), so distance, angle and cone in the disc are those of the full space and not a projection. In units of the
space's own curvature (radii are rho = sqrt(c)|v|) a point at radius rho and polar angle a has hyperboloid coordinates
(cosh rho, sinh rho cos a, sinh rho sin a), and (x_1, x_2) / (1 + x_0) in the disc. The disc keeps angles; geodesics
are circles that meet its rim at right angles. The text lies on the positive first axis.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ConePlane:
    """A text's entailment cone and an image in their common plane.

    Attributes:
        text_radius, image_radius: rho_T > 0 and rho_I >= 0.
        between: angle at the origin between both, in [0, pi] radians.
        half_aperture: delta in (0, pi/2] radians.
    """

    text_radius: float
    image_radius: float
    between: float
    half_aperture: float

    @property
    def text(self) -> np.ndarray:
        """The text in the disc, (2,)."""
        return to_disc(_at(self.text_radius, 0.0))

    @property
    def image(self) -> np.ndarray:
        """The image in the disc, (2,), in the upper half."""
        return to_disc(_at(self.image_radius, self.between))

    def ray(self, angle: float, length: float = 12.0, points: int = 200) -> np.ndarray:
        """The geodesic from the text at `angle` to the outward axis: (points, 2) in the disc.

        gamma(t) = T cosh t + (outward cos a + across sin a) sinh t; at t = 12 it is at the rim for the eye.
        """
        rho = self.text_radius
        outward = np.array([math.sinh(rho), math.cosh(rho), 0.0])
        start = outward * math.cos(angle) + np.array([0.0, 0.0, 1.0]) * math.sin(angle)
        t = np.linspace(0, length, points)[:, None]
        return to_disc(_at(rho, 0.0) * np.cosh(t) + start * np.sinh(t))

    def geodesic_to_image(self, points: int = 100) -> np.ndarray:
        """The geodesic from the text to the image: (points, 2) in the disc."""
        angle, length = self.exterior_angle_and_distance()
        return self.ray(angle, length, points)

    def exterior_angle_and_distance(self) -> tuple[float, float]:
        """phi at the text, between the outward axis and the way to the image, and the length rho of that way.

        The image's coordinates along the frame (T, outward, across) at the text are (cosh d, sinh d cos phi,
        sinh d sin phi).
        """
        rho_t, rho_i = self.text_radius, self.image_radius
        # sinh(rho_I - rho_T) - cosh(rho_T) sinh(rho_I) (1 - cos a), which does not cancel near the text
        along = math.sinh(rho_i - rho_t) - 2 * math.cosh(rho_t) * math.sinh(rho_i) * math.sin(self.between / 2) ** 2
        across = math.sinh(rho_i) * math.sin(self.between)
        return math.atan2(across, along), math.asinh(math.hypot(along, across))

    def cone_outline(self, points: int = 200) -> np.ndarray:
        """The cone as a closed polygon in the disc: its upper edge, the rim, its lower edge back to the text."""
        upper = self.ray(self.half_aperture, points=points)
        end = math.atan2(upper[-1, 1], upper[-1, 0])
        rim = np.linspace(end, -end, points)
        return np.concatenate([upper, np.stack([np.cos(rim), np.sin(rim)], 1), upper[::-1] * [1, -1]])


def to_disc(x: np.ndarray) -> np.ndarray:
    """Points (..., 3) of the hyperboloid x_0^2 - x_1^2 - x_2^2 = 1 -> (..., 2) in the unit disc."""
    return x[..., 1:] / (1 + x[..., :1])


def _at(radius: float, angle: float) -> np.ndarray:
    across = math.sinh(radius)
    return np.array([math.cosh(radius), across * math.cos(angle), across * math.sin(angle)])
