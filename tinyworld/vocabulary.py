"""The tokenizer of the tiny models: a real CLIPTokenizer whose merges cover the words of the grammar.

Every word of the grammar is one token. Any other text can be tokenized too, because every byte is in the vocabulary.
"""

import json
from functools import lru_cache

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from tinyworld.scenes import COLOURS, RELATIONS, SHAPES

CONTEXT_LENGTH = 16
_QUESTION_WORDS = "a and two is are there in the picture of how many what one no".split()


@lru_cache
def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer. ``<|endoftext|>`` has the highest id, because open_clip and CLIP pool the text there.

    Example:
        >>> build_tokenizer().tokenize("a red ring")
        ['a</w>', 'red</w>', 'ring</w>']
    """
    plurals = {f"{shape}s" for shape in SHAPES}
    words = sorted({*_QUESTION_WORDS, *COLOURS, *SHAPES, *plurals, *" ".join(RELATIONS).split()})
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trained.train_from_iterator(
        words,
        trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    tokens = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)])
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)
    broken = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if broken:
        raise RuntimeError(f"Expected one token for every word of the grammar but {broken} are split.")
    return tokenizer
