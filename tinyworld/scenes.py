"""The prompt grammar of the tiny world, its fixed held-out split, and the renderer.

A prompt names one or two objects: ``a red ring``, ``two red rings``, ``a red ring and a blue square``,
``a red ring left of a blue square``. One third of the unordered pairs of object kinds, and four of the kinds in
``two …``, never occur in training. Held-out prompts are made of words that every model has seen, in combinations that
no model has seen.
"""

import itertools
import random
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The six hues are 60 degrees apart and the background is grey: mixing with grey (blur, antialiasing) keeps the hue.
COLOURS = {
    "red": (0.86, 0.10, 0.10),
    "yellow": (0.86, 0.86, 0.10),
    "green": (0.10, 0.72, 0.10),
    "cyan": (0.10, 0.82, 0.82),
    "blue": (0.12, 0.12, 0.86),
    "magenta": (0.86, 0.10, 0.86),
}
SHAPES = ("ring", "square", "triangle")
RELATIONS = ("left of", "right of", "above", "below")
SIZE = 48
RADIUS_RANGE = (0.125, 0.155)  # shares of the picture's side; a shape of "radius" r has the area of a disc of radius r
BACKGROUND_RANGE = (0.80, 0.95)
_RING = np.sqrt(4 / 3)  # a ring's outer radius, divided by the radius of the disc of equal area
_SPLIT_SEED = 20260111
_PATTERN = re.compile(
    rf"(?P<n1>a|two) (?P<c1>{'|'.join(COLOURS)}) (?P<s1>{'|'.join(SHAPES)})(?P<plural>s?)"
    rf"(?: (?P<link>and|{'|'.join(RELATIONS)}) a (?P<c2>{'|'.join(COLOURS)}) (?P<s2>{'|'.join(SHAPES)}))?"
)


@dataclass(frozen=True, order=True)
class Kind:
    """A kind of object: its colour and its shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


KINDS = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt: ``count`` objects of the first kind, or one object each of two kinds and their relation."""

    first: Kind
    count: int = 1
    second: Kind | None = None
    relation: str | None = None

    @property
    def text(self) -> str:
        """The prompt in words."""
        if self.count == 2:
            return f"two {self.first}s"
        if self.second is None:
            return f"a {self.first}"
        return f"a {self.first} {self.relation or 'and'} a {self.second}"

    @property
    def held_out(self) -> bool:
        """Whether the combination never occurs in training."""
        pairs, doubles = held_out_combinations()
        if self.second is not None:
            return frozenset((self.first, self.second)) in pairs
        return self.count == 2 and self.first in doubles


@dataclass(frozen=True)
class SceneObject:
    """One object of a picture: kind, centre (x, y) and radius. Lengths are shares of the picture's side."""

    kind: Kind
    x: float
    y: float
    radius: float


def parse_prompt(text: str) -> Prompt:
    """Parses a prompt of the grammar.

    Raises:
        ValueError: when the text is not in the grammar.

    Example:
        >>> parse_prompt("a red ring above a blue square").relation
        'above'
    """
    match = _PATTERN.fullmatch(text)
    found = match and match.groupdict()
    if not found or (found["n1"] == "two") != bool(found["plural"]) or (found["n1"] == "two" and found["link"]):
        raise ValueError(
            f"Expected a prompt of the tiny world's grammar, such as 'a red ring', 'two red rings' or "
            f"'a red ring left of a blue square' (colours: {', '.join(COLOURS)}; shapes: {', '.join(SHAPES)}; "
            f"relations: and, {', '.join(RELATIONS)}), but got {text!r}."
        )
    first = Kind(found["c1"], found["s1"])
    if found["n1"] == "two":
        return Prompt(first, count=2)
    if not found["link"]:
        return Prompt(first)
    relation = None if found["link"] == "and" else found["link"]
    return Prompt(first, second=Kind(found["c2"], found["s2"]), relation=relation)


@lru_cache
def held_out_combinations() -> tuple[frozenset, frozenset]:
    """The fixed held-out split: (unordered pairs of kinds, kinds in ``two …``) that never occur in training."""
    rng = random.Random(_SPLIT_SEED)
    pairs = [frozenset(pair) for pair in itertools.combinations(KINDS, 2)]
    return frozenset(rng.sample(pairs, len(pairs) // 3)), frozenset(rng.sample(KINDS, 4))


@lru_cache
def all_prompts() -> tuple[Prompt, ...]:
    """Every prompt of the grammar, in a fixed order. The two kinds of a pair always differ."""
    prompts = [Prompt(kind) for kind in KINDS] + [Prompt(kind, count=2) for kind in KINDS]
    for first, second in itertools.permutations(KINDS, 2):
        prompts += [Prompt(first, second=second, relation=relation) for relation in (None, *RELATIONS)]
    return tuple(prompts)


def train_prompts() -> list[str]:
    """Texts of all prompts of the seen split."""
    return [prompt.text for prompt in all_prompts() if not prompt.held_out]


def heldout_prompts() -> list[str]:
    """Texts of all held-out prompts.

    They are shuffled with a fixed seed, so the first N are a random sample.

    Example:
        >>> len(heldout_prompts())
        514
    """
    texts = [prompt.text for prompt in all_prompts() if prompt.held_out]
    random.Random(_SPLIT_SEED).shuffle(texts)
    return texts


def sample_prompt(rng: np.random.Generator, held_out: bool = False) -> Prompt:
    """Draws a prompt of one split.

    60 % have a relation, 15 % ``and``, 15 % ``two``, 10 % a single object. The held-out split has no single objects.
    """
    pairs, doubles = _split_lists(held_out)
    draw = rng.random()
    if draw < 0.10 and not held_out:
        return Prompt(KINDS[rng.integers(len(KINDS))])
    if draw < 0.25:
        return Prompt(doubles[rng.integers(len(doubles))], count=2)
    first, second = pairs[rng.integers(len(pairs))]
    if rng.random() < 0.5:
        first, second = second, first
    relation = None if draw < 0.40 else RELATIONS[rng.integers(4)]
    return Prompt(first, second=second, relation=relation)


@lru_cache
def _split_lists(held_out: bool) -> tuple[tuple, tuple]:
    out_pairs, out_doubles = held_out_combinations()
    pairs = tuple(p for p in itertools.combinations(KINDS, 2) if (frozenset(p) in out_pairs) == held_out)
    return pairs, tuple(kind for kind in KINDS if (kind in out_doubles) == held_out)


def sample_scene(prompt: Prompt, rng: np.random.Generator) -> list[SceneObject]:
    """Places the prompt's objects at random, without overlap.

    With two objects, the distance along one axis is always clearly larger, so exactly one relation holds.
    """
    low, high = RADIUS_RANGE
    if prompt.second is None and prompt.count == 1:
        radius = rng.uniform(low, high)
        x, y = (rng.uniform(1.6 * radius, 1 - 1.6 * radius) for _ in range(2))
        return [SceneObject(prompt.first, x, y, radius)]
    relation = prompt.relation or RELATIONS[rng.integers(4)]
    first_radius, second_radius = rng.uniform(low, high, 2)
    near, far = 1.6 * first_radius, 1 - 1.6 * second_radius
    gap = 1.42 * (first_radius + second_radius)
    start = rng.uniform(near, far - gap)
    end = rng.uniform(start + gap, far)
    across = rng.uniform(near, 1 - near)
    reach = 0.7 * (end - start)
    other = rng.uniform(max(1 - far, across - reach), min(far, across + reach))
    one, two = (start, across, first_radius), (end, other, second_radius)
    if relation in ("right of", "below"):
        one, two = (1 - start, across, first_radius), (1 - end, other, second_radius)
    if relation in ("above", "below"):
        one, two = (one[1], one[0], one[2]), (two[1], two[0], two[2])
    return [SceneObject(prompt.first, *one), SceneObject(prompt.second or prompt.first, *two)]


def shape_distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius) -> np.ndarray:
    """Signed distance to a shape's outline, negative inside.

    Args:
        shape: one of ``SHAPES``.
        dx, dy: offsets from the shape's centroid.
        radius: radius of the disc of equal area, in the unit of dx and dy.
    """
    if shape == "ring":
        # As thick as the radius of its hole. A full disc would look like a square with blurred corners.
        return np.abs(np.hypot(dx, dy) - 0.75 * _RING * radius) - 0.25 * _RING * radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - 0.5 * np.sqrt(np.pi) * radius
    inradius = radius * np.sqrt(np.pi / (3 * np.sqrt(3)))
    return np.maximum(dy, 0.5 * (np.sqrt(3) * np.abs(dx) - dy)) - inradius


def render(objects: list[SceneObject], size: int = SIZE, background: float = 0.9) -> np.ndarray:
    """Draws objects with antialiased edges.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    picture = np.full((size, size, 3), background, dtype=np.float32)
    axis = np.arange(size, dtype=np.float32) + 0.5
    for item in objects:
        dx, dy = axis[None, :] - item.x * size, axis[:, None] - item.y * size
        inside = np.clip(0.5 - shape_distance(item.kind.shape, dx, dy, item.radius * size), 0, 1)[..., None]
        picture += inside.astype(np.float32) * (np.asarray(COLOURS[item.kind.colour], np.float32) - picture)
    return picture


def sample_picture(prompt: Prompt, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A random picture for which every fact of the prompt holds: (size, size, 3) float32 in [0, 1]."""
    return render(sample_scene(prompt, rng), size, background=rng.uniform(*BACKGROUND_RANGE))
