"""The HyperAlign head: backbone features of a pair -> hyperbolic geometry -> alignment score."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from reward.backbone.towers import GatedAdapter
from reward.model import lorentz
from reward.model.config import HyperAlignConfig
from reward.model.modulation import Modulation

# width of the soft corners of the radius bound, in units of rho
_KNEE = 0.1
# a backbone that needs a larger power has constant norms, and the power would only amplify rounding errors
_MAX_POWER = 20.0
_MAX_LOG_RADIUS = 2.0
_INPUTS = {"none": 0, "cosine": 1, "radii": 3, "geometry": 3}


class HyperAlignOutput(NamedTuple):
    """Output of the head for B pairs. Every field is (B,); angles are in radians."""

    score: Tensor
    similarity: Tensor
    distance: Tensor
    exterior_angle: Tensor
    half_aperture: Tensor
    margin: Tensor  # half_aperture - exterior_angle: positive where the image lies inside the text's cone
    alpha: Tensor
    beta: Tensor
    gamma: Tensor


class _Geometry(NamedTuple):
    """Geometry of each pair before modulation: cosine, sqrt(c) d, phi, delta and both radii."""

    similarity: Tensor
    distance: Tensor
    angle: Tensor
    aperture: Tensor
    rho_image: Tensor
    rho_text: Tensor


def smooth_bound(radius: Tensor, low: float, high: float) -> Tensor:
    """Clamp a radius smoothly: a monotone map of [0, inf) to about (low, high), close to the identity in between.

    It is a soft minimum with `high`, then a soft maximum with `low`. The corners are 0.1 wide. Unlike the gradient of
    a hard clamp, its gradient falls to 0 gradually.
    """
    capped = high - _KNEE * softplus((high - radius) / _KNEE)
    return low + _KNEE * softplus((capped - low) / _KNEE)


def _inverse_smooth_bound(rho: float, low: float, high: float) -> float:
    """The radius that `smooth_bound` maps to `rho`."""
    capped = low + _KNEE * math.log(math.expm1((rho - low) / _KNEE))
    return high - _KNEE * math.log(math.expm1((high - capped) / _KNEE))


class LogRadius(nn.Module):
    """log of a learned factor on the radius: 2 tanh(sqrt(D) w.u / (2 n)), in (-2, 2); w starts at 0.

    With it the radius can depend on more than the norm of a frozen feature, for example on the quality of an image or
    the detail of a prompt. The paper has no such factor. The bound keeps the exponential finite.

    Args:
        dim: D, width of the features.
    """

    def __init__(self, dim: int):
        super().__init__()
        # (1, D), because only matrices get weight decay
        self.weight = nn.Parameter(torch.zeros(1, dim))

    def forward(self, u: Tensor, mean_norm: Tensor) -> Tensor:
        """Adapted features (..., D) and mean norm () -> log factor (..., 1)."""
        scale = mean_norm / math.sqrt(u.shape[-1])
        product = nn.functional.linear(u / scale, self.weight.to(u.dtype))
        return _MAX_LOG_RADIUS * torch.tanh(product / _MAX_LOG_RADIUS)


class HyperAlign(nn.Module):
    """The HyperAlign head on un-normalised backbone features.

        u = adapter(f)
        s_base = cos(u_I, u_T)
        v = smooth_bound(sigmoid(a0) a_max (|u| / n)^p) u/|u|       with a0, mean norm n and power p per modality
        Z = standardised (sqrt(c) d, phi/pi, delta/(pi/2))
        alpha, beta, gamma = M(Z)
        score = gamma (alpha s_base + beta)

    The score follows HyperAlign's published summary. The bounds, the start values and the power p are ours. Towers
    that end in a layer norm give features whose norms differ by a few per cent only. Then the radii are nearly
    constant, and distance and angles add nothing to the cosine. The power p gives log |u| the standard deviation
    `config.radius_spread`. If `config.radius` is "learned", the radius is also multiplied by the exponential of a
    `LogRadius` of u, one per modality.

    Only gamma*alpha and gamma*beta are identifiable. `calibrate` sets the mean norms and the standardisation of Z as
    buffers. They are not batch statistics, so the score of a pair does not depend on the rest of its batch. The score
    of an untrained head is the backbone's cosine.

    Args:
        config: `HyperAlignConfig`.

    Example:
        >>> head = HyperAlign(HyperAlignConfig(embed_dim=8))
        >>> head(torch.randn(2, 8), torch.randn(2, 8)).score.shape
        torch.Size([2])
    """

    def __init__(self, config: HyperAlignConfig):
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.image_adapter = GatedAdapter(dim, config.adapter_hidden) if config.adapter else None
        self.text_adapter = GatedAdapter(dim, config.adapter_hidden) if config.adapter else None
        self.image_scale = nn.Parameter(self._start_scale(config.image_radius))
        self.text_scale = nn.Parameter(self._start_scale(config.text_radius))
        learned = config.radius == "learned"
        self.image_depth = LogRadius(dim) if learned else None
        self.text_depth = LogRadius(dim) if learned else None
        inputs = _INPUTS[config.modulation]
        self.modulation = Modulation(inputs, config.modulation_hidden)
        self.register_buffer("image_norm", torch.ones(()))
        self.register_buffer("text_norm", torch.ones(()))
        self.register_buffer("image_power", torch.ones(()))
        self.register_buffer("text_power", torch.ones(()))
        self.register_buffer("z_mean", torch.zeros(inputs))
        self.register_buffer("z_std", torch.ones(inputs))

    def _start_scale(self, rho: float) -> Tensor:
        """The a0 that gives a feature of mean norm the radius rho."""
        config = self.config
        share = _inverse_smooth_bound(rho, config.radius_low, config.radius_high) / config.max_scale
        return torch.tensor(math.log(share / (1 - share)))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """Set the mean norms, the powers and the standardisation of Z from backbone features of pairs, each (N, D).

        Raises:
            ValueError: no pairs, shapes that do not fit, or features that are all zero or not finite.
        """
        self.check_features(image_features, text_features)
        if len(image_features) == 0:
            raise ValueError("Expected at least one pair of features to calibrate on but got none")
        for buffer, features in ((self.image_norm, image_features), (self.text_norm, text_features)):
            norm = features.to(buffer).norm(dim=-1).mean()
            if not (torch.isfinite(norm) and norm > 0):
                raise ValueError(f"Expected finite, non-zero features to calibrate on but their mean norm is {norm}")
            buffer.copy_(norm)
        for buffer, features in ((self.image_power, image_features), (self.text_power, text_features)):
            log_norms = features.to(buffer).norm(dim=-1).clamp(min=1e-6).log()
            spread = log_norms.std(correction=0).clamp(min=1e-6)
            buffer.copy_((self.config.radius_spread / spread).clamp(1, _MAX_POWER))
        if self.z_mean.numel():
            z = self._raw_z(self._geometry(*self.adapt(image_features, text_features)))
            self.z_mean.copy_(z.mean(0))
            # the floor keeps a constant input from amplifying rounding noise
            self.z_std.copy_(z.std(0, correction=0).clamp(min=1e-3))

    def check_features(self, image_features: Tensor, text_features: Tensor):
        """Raise ValueError unless both are (..., embed_dim) and broadcast against each other."""
        dim = self.config.embed_dim
        for name, features in (("image_features", image_features), ("text_features", text_features)):
            if features.ndim < 1 or features.shape[-1] != dim:
                raise ValueError(f"Expected {name} of shape (..., {dim}) but got {tuple(features.shape)}")
        if image_features.shape == text_features.shape:
            return  # broadcast_shapes takes longer than the adapters
        try:
            torch.broadcast_shapes(image_features.shape, text_features.shape)
        except RuntimeError as error:
            raise ValueError(
                "Expected as many image features as text features but got "
                f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
            ) from error

    def adapt(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features (..., D) -> adapted u_I and u_T, each (..., D), at least float32, not normalised."""
        with torch.autocast(self.image_norm.device.type, enabled=False):
            image, text = image_features.to(self.image_norm), text_features.to(self.text_norm)
            if self.image_adapter is not None:
                image, text = self.image_adapter(image, self.image_norm), self.text_adapter(text, self.text_norm)
            dtype = torch.promote_types(image.dtype, torch.float32)
            return image.to(dtype), text.to(dtype)

    def _lift_image(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self._lift(u, self.image_scale, self.image_norm, self.image_power, self.image_depth)

    def _lift_text(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self._lift(u, self.text_scale, self.text_norm, self.text_power, self.text_depth)

    def _lift(
        self, u: Tensor, scale: Tensor, norm: Tensor, power: Tensor, depth: LogRadius | None
    ) -> tuple[Tensor, Tensor]:
        """Adapted features (..., D) -> radius rho (...) and unit direction (..., D); both 0 for a zero feature."""
        config = self.config
        length = u.norm(dim=-1, keepdim=True)
        lifted = length > 0
        direction = u / torch.where(lifted, length, 1.0)
        radius = scale.sigmoid() * config.max_scale * (length / norm) ** power
        if depth is not None:
            radius = radius * depth(u, norm).exp()
        rho = torch.where(lifted, smooth_bound(radius, config.radius_low, config.radius_high), 0.0)
        return rho.squeeze(-1), direction

    def _geometry(self, u_image: Tensor, u_text: Tensor) -> _Geometry:
        (rho_image, e_image), (rho_text, e_text) = self._lift_image(u_image), self._lift_text(u_text)
        distance, angle, aperture = lorentz.pair_geometry(
            rho_text, e_text, rho_image, e_image, self.config.min_radius
        )
        similarity = cosine_similarity(u_image, u_text, dim=-1)
        return _Geometry(similarity, distance, angle, aperture, rho_image, rho_text)

    def _raw_z(self, g: _Geometry) -> Tensor:
        if self.config.modulation == "none":
            return g.similarity.unsqueeze(-1)[..., :0]
        if self.config.modulation == "cosine":
            return g.similarity.unsqueeze(-1)
        if self.config.modulation == "radii":
            # only a zero feature has a radius below the bound
            low = self.config.radius_low
            logs = [rho.clamp(min=low).log().expand_as(g.similarity) for rho in (g.rho_image, g.rho_text)]
            return torch.stack((g.similarity, *logs), -1)
        return torch.stack((g.distance, g.angle / math.pi, g.aperture / (math.pi / 2)), -1)

    def radii(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Hyperbolic radii rho_I and rho_T of backbone features, each (...)."""
        u_image, u_text = self.adapt(image_features, text_features)
        return self._lift_image(u_image)[0], self._lift_text(u_text)[0]

    def text_entailment(self, broad: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor]:
        """Where the point of one prompt lies from the cone of another.

        Args:
            broad, narrow: backbone features of prompts (..., D), of which the first should hold the second.

        Returns:
            exterior angle and half-aperture, radians, each (...): inside where the first is not the larger.
        """
        with torch.autocast(self.text_norm.device.type, enabled=False):
            (rho, e), (rho_narrow, e_narrow) = (self._lift_text(self._adapted_text(text)) for text in (broad, narrow))
            return lorentz.pair_geometry(rho, e, rho_narrow, e_narrow, self.config.min_radius)[1:]

    def _adapted_text(self, text_features: Tensor) -> Tensor:
        text = text_features.to(self.text_norm)
        text = text if self.text_adapter is None else self.text_adapter(text, self.text_norm)
        return text.to(torch.promote_types(text.dtype, torch.float32))

    def score_adapted(self, u_image: Tensor, u_text: Tensor) -> HyperAlignOutput:
        """Adapted features (..., D), which broadcast -> output of shape (...)."""
        with torch.autocast(u_image.device.type, enabled=False):
            geometry = self._geometry(u_image, u_text)
            similarity, distance, angle, aperture = geometry[:4]
            z = (self._raw_z(geometry) - self.z_mean) / self.z_std
            modulated = self.modulation(z.to(self.modulation.bias.dtype))
            alpha, beta, gamma = (m.to(similarity.dtype) for m in modulated)
            score = gamma * (alpha * similarity + beta)
            distance = distance / math.sqrt(self.config.curvature)
            return HyperAlignOutput(
                score, similarity, distance, angle, aperture, aperture - angle, alpha, beta, gamma
            )

    def forward(self, image_features: Tensor, text_features: Tensor) -> HyperAlignOutput:
        """Un-normalised backbone features of pairs, each (B, D) -> `HyperAlignOutput` of (B,).

        Raises:
            ValueError: the shapes do not fit the config or each other.
        """
        self.check_features(image_features, text_features)
        return self.score_adapted(*self.adapt(image_features, text_features))
