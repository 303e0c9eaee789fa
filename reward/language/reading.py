"""Read a prompt: the one entry for everybody who asks what a prompt says."""

import functools

from reward.language.parts import PromptReading
from reward.language.small_grammar import read_small_grammar


@functools.lru_cache(maxsize=4096)
def read_prompt(prompt: str) -> PromptReading:
    """What a prompt says: things, attributes, numbers, relations, texts, style, and what it denies.

    The tiny world's prompts are read by their own grammar, everything else by spaCy.

    Raises:
        ImportError: spaCy or its English model is needed and not installed; the message has the command.

    Example:
        >>> read_prompt("a red ring left of a blue square").relations
        (Relation(subject=0, words='left of', object=1, denied=False),)
    """
    reading = read_small_grammar(prompt)
    if reading is not None:
        return reading
    # imported here: the tiny world needs no parser
    from reward.language.english.reader import read_english

    return read_english(prompt)
