"""Where prompts come from, and which ones an epoch uses."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def load_prompts(spec: str) -> list[str]:
    """Prompts from a text file (one a line, blank lines skipped) or from `module:function`.

    Raises:
        ValueError: neither form, no prompts, or something that is not text.
        FileNotFoundError: no such file.

    Example:
        >>> load_prompts("tinyworld.scenes:train_prompts")[0]
        'a red ring left of a blue square'
    """
    if not spec:
        raise ValueError("prompts: expected a text file or module:function, got nothing. Set `prompts`.")
    path = Path(spec)
    if ":" in spec and not path.exists():
        prompts = import_function(spec, "prompts")()
    elif path.is_file():
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        raise FileNotFoundError(f"prompts: expected a text file or module:function, got {spec!r}: no such file.")
    prompts = list(prompts)
    if not prompts:
        raise ValueError(f"prompts: expected at least one prompt from {spec!r}, got none.")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"prompts: expected text from {spec!r}, got {prompt!r} ({type(prompt).__name__}).")
    return prompts


def import_function(spec: str, field: str) -> object:
    """The object that `module:name` names.

    Raises:
        ValueError: no such module or name; the message says which.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ValueError(f"{field}: expected module:function, got {spec!r}.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{field}: expected module:function, got {spec!r}: {error}. Run from the folder that holds the module, or "
            "put that folder on PYTHONPATH."
        ) from error
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{field}: module {module_name!r} has no function {name!r}.")
    return getattr(module, name)


def epoch_prompts(prompts: Sequence[str], count: int, epoch: int, seed: int) -> list[str]:
    """`count` prompts for an epoch, all prompts once before any comes again; a function of (seed, epoch) alone.

    Epoch e takes places e*count .. (e+1)*count - 1 of an endless row of permutations, so resuming needs no state.
    """
    chosen = []
    for place in range(epoch * count, (epoch + 1) * count):
        lap, position = divmod(place, len(prompts))
        if position == 0 or not chosen:
            order = np.random.default_rng([seed, lap]).permutation(len(prompts))
        chosen.append(prompts[order[position]])
    return chosen
