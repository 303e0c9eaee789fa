import pytest
import torch

from reward.backbone.tokenization import Tokenizer

LONG = "a red circle left of a blue square and a green triangle above"


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory, write_tokenizer):
    """Makes open_clip's HFTokenizer of the tiny vocabulary, with or without an end-of-text post-processor."""
    from open_clip.tokenizer import HFTokenizer

    def make(end_of_text: bool = True, **options):
        folder = tmp_path_factory.mktemp("tokenizer")
        write_tokenizer(folder, end_of_text)
        return HFTokenizer(str(folder), context_length=10, **options)

    return make


def test_a_short_prompt_is_left_alone(hugging_face):
    plain = hugging_face()
    tokens, cut = Tokenizer(plain)(["a red circle", "a"])
    assert torch.equal(tokens, plain(["a red circle", "a"]))
    assert cut == []


def test_a_cut_prompt_keeps_its_end_of_text_token_and_is_told_once(hugging_face):
    tokenizer = Tokenizer(hugging_face())
    tokens, cut = tokenizer([LONG, "a"])
    end = hugging_face().tokenizer.eos_token_id
    assert tokens[0, -1] == end == tokens.max()
    assert cut == [LONG]
    assert tokenizer([LONG]) [1] == []


def test_an_end_of_text_token_that_truncation_loses_is_put_back(hugging_face):
    """A tokenizer that appends the token before it truncates."""
    plain = hugging_face()

    class Careless:
        tokenizer = plain.tokenizer

        def __call__(self, prompts):
            tokens = plain(prompts)
            tokens[tokens == plain.tokenizer.eos_token_id] = 5
            return tokens

    tokens, _ = Tokenizer(Careless())([LONG])
    assert tokens[0, -1] == plain.tokenizer.eos_token_id


def test_a_prompt_cut_between_equal_words_is_not_taken_for_a_padded_one(hugging_face):
    plain = hugging_face()

    class Careless:
        tokenizer = plain.tokenizer

        def __call__(self, prompts):
            tokens = plain(prompts)
            tokens[:, -1] = tokens[:, -2]
            return tokens

    long = " ".join(["red"] * 12)
    tokens, cut = Tokenizer(Careless())([long])
    assert tokens[0, -1] == plain.tokenizer.eos_token_id and cut == [long]


def test_without_an_end_of_text_token_nothing_is_put_in(hugging_face):
    plain = hugging_face(end_of_text=False)
    tokens, cut = Tokenizer(plain)([LONG])
    assert torch.equal(tokens, plain([LONG])) and cut == [LONG]


def test_open_clips_own_tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    own = SimpleTokenizer(context_length=10)
    tokens, cut = Tokenizer(own)([LONG, "a red circle", ""])
    assert cut == [LONG]
    assert (tokens == own.eot_token_id).sum(1).tolist() == [1, 1, 1]
    assert tokens[0, -1] == own.eot_token_id and tokens[2].tolist()[:2] == [own.sot_token_id, own.eot_token_id]


def test_a_tokenizer_with_its_own_scheme_is_left_alone(hugging_face):
    from open_clip.tokenizer import SimpleTokenizer

    own = SimpleTokenizer(context_length=10, reduction_mask="simple")
    assert Tokenizer(own)([LONG])[1] == []
    clips = hugging_face()
    clips.tokenizer_mode = "clips"
    clips._clips_tokenize = lambda texts, context: torch.zeros(len(texts), context, dtype=torch.long)
    assert Tokenizer(clips)([LONG])[1] == []


def test_the_length_counts_what_a_cut_would_lose(hugging_face):
    tokenizer = Tokenizer(hugging_face())
    assert tokenizer.length("a red circle") - tokenizer.length("") == 3
    assert tokenizer.length(LONG) == len(LONG.split()) + 2 > 10
