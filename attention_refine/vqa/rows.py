"""The rows of a VQA table: the unchanged model, and contrastive attention in each of its modes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attention_refine.contrastive.config import MODES, ContrastiveAttentionConfig

BASE = "base"


@dataclass(frozen=True)
class VQARow:
    """One row of the table: its name, and its config of contrastive attention (None for the unchanged model)."""

    name: str
    config: ContrastiveAttentionConfig | None = None

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that the answers depend on, as JSON values."""
        return None if self.config is None else self.config.to_dict()

    def around(self, model: Any) -> contextlib.AbstractContextManager:
        """The context in which the model answers."""
        if self.config is None:
            return contextlib.nullcontext()
        from attention_refine.contrastive.wrapper import ContrastiveAttention

        return ContrastiveAttention(model, self.config)


def table_rows(config: ContrastiveAttentionConfig, modes: Sequence[str] = MODES) -> list[VQARow]:
    """Rows for the unchanged model and for `config` in each of the modes.

    Raises:
        ValueError: a mode is unknown.

    Example:
        >>> [row.name for row in table_rows(ContrastiveAttentionConfig())]
        ['base', 'residual', 'post_norm', 'attention_bias']
    """
    values = config.to_dict()
    return [
        VQARow(BASE),
        *(VQARow(mode, ContrastiveAttentionConfig.from_dict(values | {"mode": mode})) for mode in modes),
    ]
