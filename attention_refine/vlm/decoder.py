"""Find the decoder layers of the language model in the supported models."""

from torch import nn


def find_decoder(model: nn.Module) -> nn.Module:
    """The module whose `.layers` are the decoder layers, e.g. `model.model.language_model` in LLaVA.

    Raises:
        TypeError: the model contains no transformers decoder.
    """
    module = model
    for _ in range(6):
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList) and len(layers) and hasattr(layers[0], "self_attn"):
            return module
        for name in ("language_model", "text_model", "model", "decoder"):
            inner = getattr(module, name, None)
            if isinstance(inner, nn.Module) and inner is not module:
                module = inner
                break
        else:
            break
    raise TypeError(
        f"Expected a transformers model whose decoder has `.layers` with `.self_attn`, got {type(model).__name__}. "
        "Supported are LLaVA, LLaVA-Next, Qwen2.5-VL, Qwen3-VL, Gemma 3, Mistral, Llama and similar models."
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The transformers model inside `torch.compile(model)` or a PEFT model; other modules are returned as they are."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model
