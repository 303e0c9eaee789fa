"""Import the function that `module:function` in a recipe names."""

import importlib

from reward.files.quoting import quoted


def import_function(spec: str, field: str) -> object:
    """Import the function `module:name`.

    Args:
        spec: `module:name`.
        field: name of the config field, for error messages.

    Raises:
        ValueError: no such module or function.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ValueError(f"{field}: expected module:function, got {quoted(spec)}.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{field}: expected module:function, got {quoted(spec)}: {error}. Run from the folder that holds the "
            "module, or put that folder on PYTHONPATH."
        ) from error
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{field}: module {quoted(module_name)} has no function {quoted(name)}.")
    return getattr(module, name)
