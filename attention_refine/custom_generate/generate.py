"""Contrastive attention as a custom_generate recipe: copy this folder beside a model's weights, or name its parent.

model.generate(**inputs, custom_generate="attention_refine", trust_remote_code=True, contrastive_attention={"lam": 0.05})
"""

import attention_refine


def generate(model, contrastive_attention=None, **kwargs):
    """`model.generate(**kwargs)` under contrastive attention; `contrastive_attention`: fields of its config.

    Fields not given are those of the preset for the model's depth.
    """
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    fields = contrastive_attention or {}
    depth = model.config.get_text_config().num_hidden_layers
    config = attention_refine.ContrastiveAttentionConfig.for_depth(depth, **fields)
    with attention_refine.ContrastiveAttention(model, config):
        return model.generate(**kwargs)
