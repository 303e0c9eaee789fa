"""In which precision pictures are scored, and what the machine at hand computes fast."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from reward.hyperalign_reward import HyperAlignReward

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


def fast_dtype(device: torch.device | str) -> str:
    """bfloat16 on devices that have units for it, asked of the machine; else float32.

    Example:
        >>> fast_dtype("cpu") in ("bfloat16", "float32")
        True
    """
    kind = torch.device(device).type
    if kind == "cuda":
        # not where it is emulated, as on a T4
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if kind != "cpu":
        return "bfloat16" if kind in ("xpu", "mps") else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def set_precision(reward: "HyperAlignReward", dtype: str) -> str:
    """Let the towers compute in a precision; the small head stays float32. Returns the precision that was taken.

    Args:
        reward: loaded in float32, on its device; changed in place.
        dtype: one of `DTYPES`. auto: `fast_dtype`. int8: the image tower on a CPU in 8 bits, without gradients; the
            text tower, whose features are kept, stays float32.

    Raises:
        ValueError: another name; int8 on another device than a CPU.
        ImportError: int8 without its extra.
    """
    if dtype not in DTYPES:
        raise ValueError(f"Expected a dtype of {', '.join(DTYPES)} but got {dtype!r}")
    if not hasattr(reward.backbone, "use_int8"):
        if dtype not in ("auto", "float32"):
            raise ValueError(f"Expected float32 for {type(reward).__name__}, as it was published, but got {dtype}")
        return "float32"
    device = reward.backbone.device
    if dtype == "auto":
        dtype = fast_dtype(device)
    if dtype == "int8":
        if device.type != "cpu":
            raise ValueError(f"Expected a CPU for int8 but the model is on {device}; use bfloat16 there")
        reward.backbone.use_int8()
    elif dtype != "float32":
        reward.backbone.to(dtype=getattr(torch, dtype))
    return dtype


def _cpu_has_bfloat16() -> bool:
    """Units, not emulation: AVX-512 BF16 or AMX on x86, BF16 on ARM."""
    found = getattr(torch.cpu, "get_capabilities", dict)()
    if any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16", "bf16", "arm_sve_bf16")):
        return True
    # torch before 2.10
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask)
