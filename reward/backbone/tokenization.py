"""Prompts -> token ids, cut so that the end-of-text token survives."""

from typing import Any

from torch import Tensor

_LETTERS_A_TOKEN = 64
_USUAL_CONTEXT = 77


class Tokenizer:
    """An open_clip tokenizer that keeps the end-of-text token of a cut prompt and tells, once, that it cut.

    open_clip's own tokenizer does so already; a Hugging Face tokenizer cuts it off where its post-processor does not
    count it, and argmax pooling would then read a random word.

    Args:
        tokenizer: open_clip's SimpleTokenizer, HFTokenizer or SigLipTokenizer.
    """

    def __init__(self, tokenizer: Any):
        self.open_clip_tokenizer = tokenizer
        self._told = False

    def __call__(self, prompts: list[str]) -> tuple[Tensor, list[str]]:
        """Token ids (B, context), and the prompts that were cut (none after the first time there were some)."""
        read = [self._shortened(prompt) for prompt in prompts]
        tokens = self.open_clip_tokenizer(read)
        cut = []
        # a row that ends in padding has room left: nothing was cut, and the prompt need not be read again
        ends = tokens[:, -2:].tolist()
        full_rows = [i for i, (before, last) in enumerate(ends) if not self._is_padding(before, last)]
        for i, full in zip(full_rows, self._full_ids([read[i] for i in full_rows]), strict=True):
            row, prompt = tokens[i], prompts[i]
            if full is None or len(full) <= len(row):
                continue
            cut.append(prompt)
            if full[-1] in self._special_ids():
                row[-1] = full[-1]
        if self._told:
            return tokens, []
        self._told = bool(cut)
        return tokens, cut

    def length(self, text: str) -> int | None:
        """How many tokens a text has before the cut, special ones included; None where the tokenizer does not tell."""
        [ids] = self._full_ids([self._shortened(text)])
        return None if ids is None else len(ids)

    def _is_padding(self, before: int, last: int) -> bool:
        # padding is 0, or the end-of-text token over again; a cut prompt may end in a word said twice
        return before == last and (last == 0 or last in self._special_ids())

    def _shortened(self, prompt: str) -> str:
        """What can reach the context of a prompt; open_clip's own tokenizer takes minutes for 100,000 letters in a row.

        A token that is read has a dozen letters, not `_LETTERS_A_TOKEN`; white space, which none keeps, goes first.
        """
        longest = _LETTERS_A_TOKEN * (getattr(self.open_clip_tokenizer, "context_length", None) or _USUAL_CONTEXT)
        return prompt if len(prompt) <= longest else " ".join(prompt.split())[:longest]

    def _full_ids(self, prompts: list[str]) -> list[list[int] | None]:
        """All ids of each prompt, special ones included; None where the tokenizer has a scheme of its own."""
        own = self.open_clip_tokenizer
        if hasattr(own, "encode"):
            if getattr(own, "reduction_fn", None) is not None:
                return [None] * len(prompts)
            return [[own.sot_token_id, *own.encode(prompt), own.eot_token_id] for prompt in prompts]
        if getattr(own, "tokenizer_mode", "") or not prompts:
            return [None] * len(prompts)
        clean = getattr(own, "clean_fn", lambda text: text)
        # verbose=False: transformers would warn about the length too, in its own words
        return own.tokenizer([clean(prompt) for prompt in prompts], verbose=False).input_ids

    def _special_ids(self) -> list[int]:
        own = self.open_clip_tokenizer
        return own.all_special_ids if hasattr(own, "encode") else own.tokenizer.all_special_ids
