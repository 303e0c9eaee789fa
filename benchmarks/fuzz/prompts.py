"""Fuzz target: prompts of any text, in tokenisers, scoring, prompt facts, score files and the caption check's page."""

import json
from pathlib import Path
from typing import Any

_WORDS = (
    "a red ring left of two blue squares", "a photo of 3 cats, a dog running on top of the car", "² rings ٣ cats ①",
    "<script>alert(1)</script>", "\x00\x01\x1b[31m\u202e\u2028", "../../../etc/passwd", "=cmd()|'/c calc'!A1",
    "&amp;&lt;&#0;&#xd800;", "\ufeff\U0001f600 e\u0301 한국어 العربية", "1" * 30 + " rings", "((((,,,,....::::|||",
)  # fmt: skip


class Prompts:
    """Input: the first byte sets how often the text is repeated, up to 100 kB; the rest is UTF-8, perhaps malformed."""

    allowed = (ValueError,)

    def __init__(self, folder: Path) -> None:
        import open_clip
        import torch

        from reward import HyperAlignReward
        from reward.backbone.tokenization import Tokenizer
        from tinyworld import weights_path

        self.folder = folder
        self.reward = HyperAlignReward.from_pretrained(weights_path("hyperalign"))
        self.image = self.reward.backbone.encode_images(torch.rand(1, 3, 48, 48))
        self.own = open_clip.tokenizer.SimpleTokenizer()
        self.simple = Tokenizer(self.own)
        self.count = 0

    def seeds(self) -> list[bytes]:
        """Plain prompts, markup, control characters, unusual digits."""
        return [bytes([repeat]) + word.encode("utf-8", "surrogatepass") for word in _WORDS for repeat in (0, 255)]

    def run(self, data: bytes) -> None:
        """Score the prompt, split it into facts, write it to files."""
        from attention_refine.caption_check.questions import make_questions
        from reward.language.phrases import join_pieces, split_prompt

        repeat, text = (data[0], _text(data[1:])) if data else (0, "")
        prompt = (text * (1 + repeat**2))[:100_000]
        self._score(prompt)
        make_questions(prompt[:2_000])
        pieces = split_prompt(prompt[:2_000])
        if "".join(join_pieces(pieces).split()) != "".join(prompt[:2_000].split()):
            raise AssertionError("words were lost")
        self._write(prompt)

    def _score(self, prompt: str) -> None:
        import torch

        backbone = self.reward.backbone
        self.simple([prompt])
        self.count += 1
        if self.count % 256 == 0:  # both cache prompts; the cache's size does not belong to one prompt
            self.own.cache.clear()
            backbone.clear_cache()
        with torch.no_grad():
            score = self.reward.head(self.image, backbone.encode_prompts([prompt])).score
        if not score.isfinite().all():
            raise AssertionError(f"score {score}")

    def _write(self, prompt: str) -> None:
        from attention_refine.caption_check.page import page_html
        from reward.scoring.parts import write_scores

        for suffix in (".csv", ".jsonl", ".parquet") if self.count % 16 == 0 else (".csv", ".jsonl"):
            record = {"path": "a.png", "prompt": prompt, "score": 0.5}
            file = write_scores(self.folder / f"scores{suffix}", [record])
            if suffix == ".jsonl" and json.loads(file.read_bytes())["prompt"] != prompt:
                raise AssertionError("the prompt was changed")
        html = page_html([check_record(prompt, prompt)], {"pictures": 1}, title=prompt, limit=1)
        (self.folder / "page.html").write_text(html, encoding="utf-8")
        if html.count("<") != _TAGS or "<script" in html:
            raise AssertionError("the page has other elements than its own")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def check_record(prompt: str, caption: str, path: str = "gone.png") -> dict[str, Any]:
    """A caption check's record with the same text in every field."""
    own = {
        "prompt": prompt, "prompt_yes": 0.5, "questions_yes": 0.5, "caption_coverage": 1.0,
        "answers": [{"question": prompt, "kind": "thing", "yes": 0.5}],
        "facts": [{"text": prompt, "kind": "thing", "is_covered": True}],
    }  # fmt: skip
    return {"path": path, "prompt": prompt, "caption": caption, "own": own, "control": own}


def _tags() -> int:
    from attention_refine.caption_check.page import page_html

    return page_html([check_record("x", "x")], {"pictures": 1}, title="x", limit=1).count("<")


_TAGS = _tags()
