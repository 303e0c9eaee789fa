"""Hostile input, the same on every run: Hypothesis draws from the test's own name and keeps nothing."""

import pytest
from hypothesis import HealthCheck, settings

HOSTILE = settings(
    derandomize=True, database=None, deadline=None, max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

# what a pickle does when it is loaded: os.system("true")
EVIL_PICKLE = b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00truetR."


@pytest.fixture
def evil_pickle():
    """Bytes that run a command in whoever unpickles them."""
    return EVIL_PICKLE


@pytest.fixture(scope="session", autouse=True)
def imported():
    """Libraries imported on first use: what they do then, such as asking for shared libraries, no input did."""
    import diffusers.loaders.lora_base
    import diffusers.utils.state_dict_utils
    import open_clip
    import peft
    import torch._dynamo

    return [open_clip, peft, diffusers, torch._dynamo]
