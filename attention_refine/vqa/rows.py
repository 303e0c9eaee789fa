"""The rows of a VQA table: the bare model, and contrastive attention in each of its modes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig

BASE = "base"


@dataclass(frozen=True)
class VQARow:
    """One row: its name, and how the model runs; `config` None is the bare model."""

    name: str
    config: ContrastiveAttentionConfig | None = None

    @property
    def settings(self) -> dict[str, Any] | None:
        """What the answers depend on, as JSON can hold it."""
        return None if self.config is None else self.config.to_dict()

    def around(self, model: Any) -> contextlib.AbstractContextManager:
        """The context in which the model answers."""
        if self.config is None:
            return contextlib.nullcontext()
        from attention_refine.contrastive.wrapper import ContrastiveAttention

        return ContrastiveAttention(model, self.config)


def table_rows(config: ContrastiveAttentionConfig, modes: Sequence[str] = MODES) -> list[VQARow]:
    """The bare model, then `config` in each of the modes.

    Raises:
        ValueError: a mode that there is not.

    Example:
        >>> [row.name for row in table_rows(ContrastiveAttentionConfig())]
        ['base', 'residual', 'post_norm', 'attention_bias']
    """
    values = config.to_dict()
    return [
        VQARow(BASE),
        *(VQARow(mode, ContrastiveAttentionConfig.from_dict(values | {"mode": mode})) for mode in modes),
    ]
