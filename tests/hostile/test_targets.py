"""Every fuzz target of benchmarks/fuzz on its seeds and on Hypothesis's mutations of them, under the same guard."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz.configs import Configs
from benchmarks.fuzz.folders import Backbones, Loras, RewardHeads, Runs
from benchmarks.fuzz.guard import guarded
from benchmarks.fuzz.pictures import Pictures
from benchmarks.fuzz.prompts import Prompts
from benchmarks.fuzz.tables import Tables, Workbooks
from tests.hostile.conftest import HOSTILE

TARGETS = (Pictures, Prompts, Tables, Workbooks, Configs, RewardHeads, Backbones, Loras, Runs)
EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4
)


@pytest.fixture(scope="module", params=TARGETS, ids=lambda kind: kind.__name__)
def target(request, tmp_path_factory):
    """A target with its folder, its seeds run once: first cases import what they need."""
    folder = tmp_path_factory.mktemp("case")
    made = request.param(folder)
    seeds = made.seeds()
    for seed in seeds:
        with contextlib.suppress(*made.allowed):
            made.run(seed)
    return made, folder, seeds


def test_seeds_end_as_documented(target):
    made, folder, seeds = target
    sound = 0
    for seed in seeds:
        with guarded(folder):
            try:
                made.run(seed)
                sound += 1
            except made.allowed as error:
                assert str(error)
    assert sound, "at least one seed is a sound file, or nothing was tested"


@HOSTILE
@given(data=st.data())
def test_mutations_end_as_documented(target, data):
    made, folder, seeds = target
    content = data.draw(st.sampled_from(seeds))
    for place, length, new in data.draw(EDITS):
        at = 1 + place % max(1, len(content) - 1)
        content = content[:at] + new + content[at + length :]
    with guarded(folder), contextlib.suppress(*made.allowed):
        made.run(content)


@HOSTILE
@given(text=st.text(alphabet=st.characters(codec=None), max_size=60), repeat=st.sampled_from([0, 1, 40]))
def test_any_text_is_scored_and_written(prompts, text, repeat):
    made, folder = prompts
    with guarded(folder), contextlib.suppress(ValueError):
        made.run(bytes([repeat]) + text.encode("utf-8", "surrogatepass"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    return Prompts(folder), folder
