"""An image tower in 8 bits on a CPU, through OpenVINO: matrices int8 by channel, activations int8 as they come.

Nothing is calibrated on pictures, so that a score depends on its own picture alone. Of what was tried on a ViT-B/16
(`benchmarks/precision`), torchao was slower: its kernels need torch.compile, whose first batch takes minutes.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from reward.backbone.image_features import encode_image

# cosine between the features of both precisions on noise; a tower that was traced wrongly is far below
_LEAST_COSINE = 0.98


class Int8ImageTower:
    """Model input (B,3,H,W) -> features (B,D) without gradient, computed in 8 bits.

    Args:
        model: an open_clip model in float32 on the CPU; it is not changed.
        size: (height, width) of the model input.

    Raises:
        ImportError: without the extra `int8`.
        ValueError: a tower whose features are others in 8 bits.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]):
        try:
            with _no_statistics():
                import nncf
                import openvino
        except ImportError as error:
            raise ImportError('Expected openvino and nncf for int8; pip install "hyperalign[int8]"') from error
        generator = torch.Generator().manual_seed(0)
        example = torch.rand(3, 3, *size, generator=generator)
        with _no_statistics(), _quiet(), _traceable(), torch.no_grad():
            graph = openvino.convert_model(_Tower(model), example_input=example[:2], input=[-1, 3, *size])
            graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
        self._compiled = openvino.Core().compile_model(
            graph, "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "64",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )  # fmt: skip
        with torch.no_grad():
            # of another batch size than the one that was traced
            cosine = torch.cosine_similarity(self(example), encode_image(model, example)).min().item()
        if not cosine > _LEAST_COSINE:
            raise ValueError(
                f"Expected the tower's features to be the same in int8 but their cosine is {cosine:.3f}; use --dtype "
                "bfloat16 or float32"
            )

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B,3,H,W) float32 on the CPU -> (B,D) float32."""
        # a copy: the next call writes into the same memory
        return torch.from_numpy(self._compiled(pixels.numpy(force=True))[0].copy())


class _Tower(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return encode_image(self.model, pixels)


@contextlib.contextmanager
def _no_statistics() -> Iterator[None]:
    """Inside, neither library reports to its makers who uses it: both hold back where CI is set."""
    earlier = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ |= {"CI": "true", "NNCF_CI": "1"}
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the tables, bars and warnings of tracing and compressing."""
    import warnings

    loggers: list[Any] = [logging.getLogger(name) for name in ("nncf", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _traceable() -> Iterator[None]:
    """Without the fused transformer layer, which tracing does not see through."""
    earlier = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(earlier)
