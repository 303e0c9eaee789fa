"""Every lower bound of setup.cfg as an exact pin, one a line: what `make test-lowest` installs.

python tests/lowest_pins.py [setup.cfg]
"""

import configparser
import re
import sys
from pathlib import Path

_BOUND = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)>=([0-9][0-9.]*)")


def lowest_pins(setup: Path) -> list[str]:
    """`name==version` of every dependency, those of all extras included, each once.

    Raises:
        ValueError: a dependency without a plain lower bound, or two bounds of one package.
    """
    config = configparser.ConfigParser()
    config.read_string(setup.read_text(encoding="utf-8"))
    own = config["metadata"]["name"]
    lines = config["options"]["install_requires"].split("\n")
    lines += [line for extra in config["options.extras_require"].values() for line in extra.split("\n")]
    pins: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        if line.startswith(f"{own}["):
            continue
        bound = _BOUND.fullmatch(line)
        if bound is None:
            raise ValueError(f"{setup.name}: expected NAME>=VERSION and nothing else, got {line!r}. Give it a bound.")
        name, version = bound.groups()
        if pins.setdefault(name, version) != version:
            raise ValueError(f"{setup.name}: expected one bound of {name}, got {pins[name]} and {version}.")
    return [f"{name}=={version}" for name, version in pins.items()]


if __name__ == "__main__":
    given = sys.argv[1:]
    print("\n".join(lowest_pins(Path(given[0]) if given else Path(__file__).resolve().parents[1] / "setup.cfg")))
