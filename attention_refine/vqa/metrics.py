"""The official metrics of the VQA data sets: VQA accuracy, exact match, ANLS."""

import re
from collections.abc import Sequence

# The words of the official script's list. It restores each of them from a spelling that lacks one apostrophe.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


_RESTORED = {short: word for word in _CONTRACTIONS for short in _without_one_apostrophe(word)}
_RESTORED["somebody'd"] = "somebodyd"  # reversed in the official script; kept, so that numbers are comparable

_NUMBERS = {word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_NUMBERS["none"] = "0"
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_OFFICIAL_PERIODS = 32  # the official script passes re.UNICODE (32) as the number of replacements

ANLS_THRESHOLD = 0.5


def normalise_answer(text: str) -> str:
    """Normalise an answer as the official VQA script does: punctuation, number words, articles, contractions, case.

    Source: `processPunctuation` and `processDigitArticle` of the evaluation code of VQA (github.com/GT-Vision-Lab/VQA).
    Its peculiarities are kept. A punctuation mark is deleted if the text has a space beside such a mark, or a comma
    between digits; otherwise it becomes a space. "none" becomes 0. Words such as "its" and "were" stay.

    Example:
        >>> normalise_answer("The two dogs, dont bark!")
        "2 dogs don't bark"
    """
    text = _on_one_line(text)
    joined = bool(_COMMA_IN_NUMBER.search(text))
    cleaned = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or joined else " ")
    cleaned = _PERIOD.sub("", cleaned, count=_OFFICIAL_PERIODS)
    words = (_NUMBERS.get(word, word) for word in cleaned.lower().split())
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(answer: str, given: Sequence[str], as_given_if_unanimous: bool = True) -> float:
    """VQA accuracy of one answer: mean over annotators of min(1, number of others who gave this answer / 3).

    Source: the evaluation code of VQA (github.com/GT-Vision-Lab/VQA). With ten annotators there are nine others.

    Args:
        answer: the model's answer.
        given: the annotators' answers, one each.
        as_given_if_unanimous: if all annotators wrote the same text, compare without normalisation, as that code does.
            False always normalises, as TextVQA's code does (MMF's `TextVQAAccuracyEvaluator`).

    Returns:
        the accuracy, in [0, 1].

    Raises:
        ValueError: `given` is empty.

    Example:
        >>> round(vqa_accuracy("Two.", ["2"] * 3 + ["3"] * 7), 2)
        0.9
    """
    if not given:
        raise ValueError("Expected at least one given answer, got none; a test part without answers cannot be scored.")
    answer, given = _on_one_line(answer), [_on_one_line(text) for text in given]
    if len(set(given)) > 1 or not as_given_if_unanimous:
        answer, given = normalise_answer(answer), [normalise_answer(text) for text in given]
    same = sum(text == answer for text in given)
    # an annotator who gave this answer does not count as one of the others
    with_me, without_me = min(1.0, (same - 1) / 3), min(1.0, same / 3)
    return (same * with_me + (len(given) - same) * without_me) / len(given)


def exact_match(answer: str, given: Sequence[str]) -> float:
    """GQA's accuracy: 1.0 if the answer, in lower case and without a final full stop, is one of those given, else 0.0.

    Source: GQA's eval.py compares strings. LLaVA's `convert_gqa_for_eval.py` lowers the case and removes the full stop.

    Raises:
        ValueError: `given` is empty.

    Example:
        >>> exact_match("Left.", ["left"])
        1.0
    """
    if not given:
        raise ValueError("Expected at least one given answer, got none; a test part without answers cannot be scored.")
    return float(answer.strip().rstrip(".").lower() in {text.strip().lower() for text in given})


def anls(answer: str, given: Sequence[str]) -> float:
    """Normalised Levenshtein similarity to the nearest given answer. Its mean over questions is ANLS.

    The similarity is 1 − edits / length of the longer text, in lower case, with single spaces. Values below 0.5 count
    as 0. Source: Biten et al., arXiv 1907.00490; the scoring code of DocVQA (rrc.cvc.uab.es).

    Returns:
        0, or a value in [0.5, 1].

    Raises:
        ValueError: `given` is empty.

    Example:
        >>> anls("1 January 1998", ["1 january 1999"]) > 0.9
        True
    """
    if not given:
        raise ValueError("Expected at least one given answer, got none; a test part without answers cannot be scored.")
    answer = " ".join(answer.lower().split())
    best = 0.0
    for text in (" ".join(text.lower().split()) for text in given):
        longest = max(len(text), len(answer))
        best = max(best, 1 - edit_distance(answer, text) / longest if longest else 1.0)
    return best if best >= ANLS_THRESHOLD else 0.0


def edit_distance(one: str, two: str) -> int:
    """Levenshtein distance: the smallest number of letters to insert, delete or change.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(two, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    return row[-1]
