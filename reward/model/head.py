"""HyperAlign: backbone features of a pair -> hyperbolic geometry -> alignment score."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from reward.backbone.towers import GatedAdapter
from reward.model import lorentz
from reward.model.config import HyperAlignConfig
from reward.model.modulation import Modulation

# width of the soft knees of the radius bound, in units of rho
_KNEE = 0.1
# beyond that a backbone's norms are constant for all purposes, and only rounding would be blown up
_MAX_POWER = 20.0
_MAX_LOG_RADIUS = 2.0
_INPUTS = {"none": 0, "cosine": 1, "radii": 3, "geometry": 3}


class HyperAlignOutput(NamedTuple):
    """Everything the model says about each pair; each (B,). Angles in radians."""

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
    """What `HyperAlign` computes of each pair before it modulates: sqrt(c) d, phi, delta and both radii."""

    similarity: Tensor
    distance: Tensor
    angle: Tensor
    aperture: Tensor
    rho_image: Tensor
    rho_text: Tensor


def smooth_bound(radius: Tensor, low: float, high: float) -> Tensor:
    """Monotone map of [0, inf) into about (low, high), close to the identity well inside.

    A soft minimum with `high`, then a soft maximum with `low`, knees 0.1 wide: a clamp whose gradient fades out.
    """
    capped = high - _KNEE * softplus((high - radius) / _KNEE)
    return low + _KNEE * softplus((capped - low) / _KNEE)


def _inverse_smooth_bound(rho: float, low: float, high: float) -> float:
    """The radius that `smooth_bound` maps to `rho`."""
    capped = low + _KNEE * math.log(math.expm1((rho - low) / _KNEE))
    return high - _KNEE * math.log(math.expm1((high - capped) / _KNEE))


class LogRadius(nn.Module):
    """log of a factor on the radius, linear in the feature: 2 tanh(sqrt(D) w.u / (2 n)), in (-2, 2); w starts at 0.

    Lets the radius say what the norm of a frozen feature does not: how well made a picture is, how much a prompt asks.
    Ours, like its bound, which keeps the exponential finite.

    Args:
        dim: D, width of the features.
    """

    def __init__(self, dim: int):
        super().__init__()
        # (1, D), a matrix, so that it decays
        self.weight = nn.Parameter(torch.zeros(1, dim))

    def forward(self, u: Tensor, mean_norm: Tensor) -> Tensor:
        """Adapted features (..., D), mean norm () -> (..., 1)."""
        scale = mean_norm / math.sqrt(u.shape[-1])
        product = nn.functional.linear(u / scale, self.weight.to(u.dtype))
        return _MAX_LOG_RADIUS * torch.tanh(product / _MAX_LOG_RADIUS)


class HyperAlign(nn.Module):
    """The HyperAlign head on un-normalised backbone features.

    u = adapter(f);  s_base = cos(u_I, u_T);  v = smooth_bound(sigmoid(a0) a_max (|u| / n)^p) u/|u| with a0, the mean
    norm n and the power p per modality;  Z = standardised (sqrt(c) d, phi/pi, delta/(pi/2));
    alpha, beta, gamma = M(Z);  score = gamma (alpha s_base + beta).

    The power is ours: towers that end in a layer norm give norms of a few per cent's spread, and with nearly constant
    radii distance and angles say no more than the cosine. p gives log |u| the spread `config.radius_spread`. With
    `config.radius` "learned" the radius is further multiplied by exp of a `LogRadius` of u, one per modality.

    Only gamma*alpha and gamma*beta are identifiable. Mean norms and the standardisation of Z are buffers, set by
    `calibrate`, never statistics of a batch: a pair's score does not depend on its neighbours. Untrained, the score is
    the backbone's cosine. The score follows HyperAlign's published summary; bounds, knees and start values are ours.

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
        """The a0 at which a feature of mean norm has radius rho."""
        config = self.config
        share = _inverse_smooth_bound(rho, config.radius_low, config.radius_high) / config.max_scale
        return torch.tensor(math.log(share / (1 - share)))

    @torch.no_grad()
    def calibrate(self, image_features: Tensor, text_features: Tensor):
        """Set the mean norms and the standardisation of Z from backbone features of pairs, each (N, D)."""
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
            # a floor, so that a constant input cannot blow rounding noise up
            self.z_std.copy_(z.std(0, correction=0).clamp(min=1e-3))

    def check_features(self, image_features: Tensor, text_features: Tensor):
        """Raise ValueError unless both are (..., embed_dim) and broadcast against each other."""
        dim = self.config.embed_dim
        for name, features in (("image_features", image_features), ("text_features", text_features)):
            if features.ndim < 1 or features.shape[-1] != dim:
                raise ValueError(f"Expected {name} of shape (..., {dim}) but got {tuple(features.shape)}")
        if image_features.shape == text_features.shape:
            return  # broadcast_shapes takes longer than the adapters do
        try:
            torch.broadcast_shapes(image_features.shape, text_features.shape)
        except RuntimeError as error:
            raise ValueError(
                "Expected as many image features as text features but got "
                f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
            ) from error

    def adapt(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features (..., D) -> adapted, un-normalised u_I and u_T, at least float32."""
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
        """Adapted features (..., D) -> radius rho (...) and direction (..., D) of the point; both 0 for a feature 0."""
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
            # only a zero feature lies below the bound
            low = self.config.radius_low
            logs = [rho.clamp(min=low).log().expand_as(g.similarity) for rho in (g.rho_image, g.rho_text)]
            return torch.stack((g.similarity, *logs), -1)
        return torch.stack((g.distance, g.angle / math.pi, g.aperture / (math.pi / 2)), -1)

    def radii(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Hyperbolic radii rho_I and rho_T of backbone features, each (...)."""
        u_image, u_text = self.adapt(image_features, text_features)
        return self._lift_image(u_image)[0], self._lift_text(u_text)[0]

    def score_adapted(self, u_image: Tensor, u_text: Tensor) -> HyperAlignOutput:
        """Adapted features (..., D), broadcasting -> output of shape (...)."""
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
            ValueError: shapes that do not fit the config or each other.
        """
        self.check_features(image_features, text_features)
        return self.score_adapted(*self.adapt(image_features, text_features))
