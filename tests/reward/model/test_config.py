import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward import HyperAlignConfig


def test_json_round_trip_of_the_defaults():
    config = HyperAlignConfig()
    assert HyperAlignConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["format_version"] == 1


@given(
    embed_dim=st.integers(1, 4096),
    adapter=st.booleans(),
    modulation=st.sampled_from(["none", "cosine", "geometry"]),
    entailment=st.sampled_from([None, "paper", "weighted", "two_sided"]),
    lambda_rank=st.floats(0, 10),
    contraction=st.floats(0, 1, exclude_max=True),
)
def test_json_round_trip(**fields):
    config = HyperAlignConfig(backbone="local-dir:backbone", **fields)
    assert HyperAlignConfig.from_json(config.to_json()) == config


def test_it_is_frozen_and_every_field_is_documented():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HyperAlignConfig().adapter = False
    assert all(f.metadata["help"] for f in dataclasses.fields(HyperAlignConfig))


def test_an_integer_is_taken_as_float():
    assert isinstance(HyperAlignConfig(curvature=2).curvature, float)


@pytest.mark.parametrize(
    "fields, error, message",
    [
        ({"embed_dim": "512"}, TypeError, r"Expected embed_dim to be int but got '512' \(str\)"),
        ({"embed_dim": True}, TypeError, "Expected embed_dim to be int but got True"),
        ({"curvature": True}, TypeError, "Expected curvature to be float but got True"),
        ({"adapter": 1}, TypeError, "Expected adapter to be bool but got 1"),
        ({"pretrained": 3}, TypeError, "Expected pretrained to be str, NoneType but got 3"),
        ({"embed_dim": 0}, ValueError, "Expected embed_dim to be at least 1 but got 0"),
        ({"curvature": -1.0}, ValueError, "Expected curvature to be positive but got -1.0"),
        ({"curvature": float("nan")}, ValueError, "Expected curvature to be finite but got nan"),
        ({"lambda_rank": -0.1}, ValueError, "Expected lambda_rank to be zero or positive"),
        ({"contraction": 1.0}, ValueError, r"Expected contraction to be in \[0, 1\) but got 1.0"),
        ({"radius_high": 0.1}, ValueError, "Expected radius_high to be above radius_low = 0.15 but got 0.1"),
        ({"text_radius": 0.1}, ValueError, r"Expected text_radius to be in \(0.15, 2.5\)"),
        ({"image_radius": 3.0}, ValueError, r"Expected image_radius to be in \(0, max_scale = 2.0\)"),
        ({"modulation": "geometri"}, ValueError, "Expected modulation to be one of .*'geometry'.* but got 'geometri'"),
        ({"entailment": "both"}, ValueError, "Expected entailment to be one of .*'paper'"),
        ({"entailment": 1}, TypeError, "Expected entailment to be one of"),
        ({"backbone": " "}, ValueError, "Expected backbone to be a name"),
        ({"backbone": "local-dir:x", "pretrained": "openai"}, ValueError, "Expected pretrained=None with backbone"),
    ],
)
def test_bad_values(fields, error, message):
    with pytest.raises(error, match=message):
        HyperAlignConfig(**fields)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"modulaton": "none"}, ValueError, "Unknown key 'modulaton' in .*; did you mean 'modulation'"),
        ({"zzz": 1}, ValueError, "Unknown key 'zzz'.*known keys: embed_dim"),
        ({"format_version": 2}, ValueError, "Expected format_version 1 but got 2"),
        ({"embed_dim": None}, TypeError, "Expected embed_dim to be int but got None"),
    ],
)
def test_bad_json_values(change, error, message):
    values = HyperAlignConfig().to_dict() | change
    with pytest.raises(error, match=message):
        HyperAlignConfig.from_dict(values)


def test_bad_json():
    with pytest.raises(ValueError, match="does not parse"):
        HyperAlignConfig.from_json("{")
    with pytest.raises(TypeError, match="Expected a JSON object with HyperAlignConfig's fields but got list"):
        HyperAlignConfig.from_json("[]")
    with pytest.raises(ValueError, match="to have the key 'backbone' but it is missing"):
        HyperAlignConfig.from_dict({"embed_dim": 4})
