"""Contrastive attention for one call: `model.generate(custom_generate=attention_refine.generate, …)`."""

from typing import Any

from torch import Tensor

from attention_refine.contrastive.config import ContrastiveAttentionConfig
from attention_refine.contrastive.wrapper import ContrastiveAttention


def generate(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    contrastive_attention: ContrastiveAttentionConfig | ContrastiveAttention | None = None,
    **model_kwargs: Any,
) -> Any:
    """Run the decoding loop that `generation_config` asks for, with contrastive attention.

    Pass this function as `custom_generate` to transformers' `generate`, which prepares the inputs and calls it.

    Args:
        contrastive_attention: a config, or a `ContrastiveAttention` of the model if you want to read its `records`
            afterwards. None uses the preset for the model's depth.

    Raises:
        ValueError: the decoding mode is not greedy, sampling or beam search; also as `ContrastiveAttention`.

    Example:
        >>> model.generate(**inputs, custom_generate=attention_refine.generate,
        ...                contrastive_attention=ContrastiveAttentionConfig(lam=0.05))  # doctest: +SKIP
    """
    from transformers.generation.utils import GENERATION_MODES_MAPPING

    mode = generation_config.get_generation_mode()
    loop = GENERATION_MODES_MAPPING[mode]
    if loop not in ("_sample", "_beam_search"):
        raise ValueError(f"Expected greedy decoding, sampling or beam search, got {mode.value}.")
    if not isinstance(contrastive_attention, ContrastiveAttention):
        contrastive_attention = ContrastiveAttention(model, contrastive_attention)
    with contrastive_attention:
        return getattr(type(model), loop)(
            model,
            input_ids,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            **model_kwargs,
        )
