"""Prompts and a reward for the tiny runs; the environment tells the reward to fail at a certain call.

REWARD_FAULT: raise, hang, nan, infinite, shape or text; REWARD_FAULT_CALL: the first call that fails, counted from 1.
"""

import itertools
import os
import time

import torch

_calls = itertools.count(1)


def prompts():
    return ["a red circle", "a blue square", "two dots"]


def noisy_redness(images, prompts, metadata):
    """Differentiable, and from a random generator too: a resumed run must have put that one back."""
    values = images[:, 0].mean((1, 2)) + 0.1 * torch.rand(len(images))
    fault = os.environ.get("REWARD_FAULT")
    if fault and next(_calls) >= int(os.environ["REWARD_FAULT_CALL"]):
        return spoiled(values, fault), {}
    return values, {}


def spoiled(values, fault):
    if fault == "raise":
        raise RuntimeError("the scorer's server has gone away")
    if fault == "hang":
        time.sleep(3600)
    if fault in ("nan", "infinite"):
        return values * float("nan" if fault == "nan" else "inf")
    return values[:, None].expand(-1, 2) if fault == "shape" else ["good"] * len(values)
