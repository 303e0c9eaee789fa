import sys

import pytest
import torch

from rl.config.train_config import TrainConfig
from rl.updates.optimizer import make_optimizer


def test_every_setting_reaches_the_optimiser():
    config = TrainConfig(
        train_learning_rate=0.03, train_adam_beta1=0.8, train_adam_beta2=0.95, train_adam_weight_decay=0.2,
        train_adam_epsilon=1e-3,
    )
    optimizer = make_optimizer(config, [torch.nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.AdamW)
    settings = {name: optimizer.defaults[name] for name in ("lr", "betas", "weight_decay", "eps")}
    assert settings == {"lr": 0.03, "betas": (0.8, 0.95), "weight_decay": 0.2, "eps": 1e-3}


def test_8bit_without_bitsandbytes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ImportError, match="pip install bitsandbytes"):
        make_optimizer(TrainConfig(train_use_8bit_adam=True), [torch.nn.Parameter(torch.zeros(2))])
