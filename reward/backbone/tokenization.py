"""Prompts -> token ids. A prompt that is too long is cut but keeps its end-of-text token."""

from typing import Any

from torch import Tensor

_LETTERS_A_TOKEN = 64
_USUAL_CONTEXT = 77


class Tokenizer:
    """An open_clip tokenizer that keeps the end-of-text token of a cut prompt and reports the first cut prompts.

    open_clip's own tokenizer keeps that token already. A Hugging Face tokenizer drops it if its post-processor does
    not count it. Argmax pooling would then read an arbitrary word.

    Args:
        tokenizer: open_clip's SimpleTokenizer, HFTokenizer or SigLipTokenizer.
    """

    def __init__(self, tokenizer: Any):
        self.open_clip_tokenizer = tokenizer
        self._told = False

    def __call__(self, prompts: list[str]) -> tuple[Tensor, list[str]]:
        """Tokenize prompts.

        Returns:
            token ids (B, context), and the prompts that were cut. The list is empty after the first call that cut any.
        """
        read = [self._shortened(prompt) for prompt in prompts]
        tokens = self.open_clip_tokenizer(read)
        cut = []
        # a row that ends in padding was not cut, so its prompt is not tokenized again
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
        """Number of tokens of a text before the cut, with special tokens; None if the tokenizer cannot tell."""
        [ids] = self._full_ids([self._shortened(text)])
        return None if ids is None else len(ids)

    def fits(self, text: str) -> bool:
        """Whether a text is read whole; also where the tokenizer does not tell."""
        length = self.length(text)
        return length is None or length <= (getattr(self.open_clip_tokenizer, "context_length", None) or _USUAL_CONTEXT)

    def _is_padding(self, before: int, last: int) -> bool:
        # padding is 0 or repeated end-of-text tokens; a cut prompt may also end in two equal tokens, of a repeated word
        return before == last and (last == 0 or last in self._special_ids())

    def _shortened(self, prompt: str) -> str:
        """The part of a prompt that can fit into the context.

        open_clip's own tokenizer needs minutes for 100,000 letters without a space. A real token has about a dozen
        letters, far fewer than `_LETTERS_A_TOKEN`. White space is collapsed first, because no tokenizer keeps it.
        """
        longest = _LETTERS_A_TOKEN * (getattr(self.open_clip_tokenizer, "context_length", None) or _USUAL_CONTEXT)
        return prompt if len(prompt) <= longest else " ".join(prompt.split())[:longest]

    def _full_ids(self, prompts: list[str]) -> list[list[int] | None]:
        """All ids of each prompt, with special tokens; None for a tokenizer that shortens prompts in its own way."""
        own = self.open_clip_tokenizer
        if hasattr(own, "encode"):
            if getattr(own, "reduction_fn", None) is not None:
                return [None] * len(prompts)
            return [[own.sot_token_id, *own.encode(prompt), own.eot_token_id] for prompt in prompts]
        if getattr(own, "tokenizer_mode", "") or not prompts:
            return [None] * len(prompts)
        clean = getattr(own, "clean_fn", lambda text: text)
        # verbose=False, because transformers would warn about the length too
        return own.tokenizer([clean(prompt) for prompt in prompts], verbose=False).input_ids

    def _special_ids(self) -> list[int]:
        own = self.open_clip_tokenizer
        return own.all_special_ids if hasattr(own, "encode") else own.tokenizer.all_special_ids
