"""Everything that the commands import sooner or later; the process that the others are forked from imports this."""

import open_clip  # noqa: F401
import peft  # noqa: F401
import pytest  # noqa: F401
import scipy.stats  # noqa: F401
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast  # noqa: F401

import reward.cli.main
import reward.cli.train  # noqa: F401
import rl.ddpo_train
import rl.direct_train
import rl.trainer  # noqa: F401
import tests.faults.processes  # noqa: F401

torch.set_num_threads(1)
