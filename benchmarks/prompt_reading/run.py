"""What the reader of prompts finds, against DSG-1k's human-checked propositions; each prompt is read once.

python benchmarks/prompt_reading/run.py ../shared/datasets/DSG-1k/dev.csv

An entity matches on its last word in the singular; an attribute where one fact's text holds its thing's and its own
last word; a relation where one fact joins its two things. `facts` are those of the caption check; `facts and making`
count the words on how the picture is made as said of the first thing, as DSG mostly does. Rows of results.csv are
written anew.
"""

import argparse
import csv
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from attention_refine.caption_check.facts import prompt_facts  # noqa: E402
from benchmarks.results_file import write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.language.english.model import load_model  # noqa: E402
from reward.language.english.vocabulary import MEDIA  # noqa: E402
from reward.language.reading import read_prompt  # noqa: E402
from reward.language.words import singular_of  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("reader", "prompts from", "measure", "value", "of")
_ENDINGS = (("ies", "y"), ("ves", "f"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("men", "man"))
_DENYING = re.compile(r"\b(?:without|no|not|never)\b|n['’]t\b", re.IGNORECASE)


@dataclass
class Proposed:
    """What DSG-1k says of one prompt: last words of entities, (thing, attribute), (thing, other thing)."""

    prompt: str
    source: str
    entities: set[str] = field(default_factory=set)
    attributes: set[tuple[str, str]] = field(default_factory=set)
    relations: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class Found:
    """What a reader says: last words of things, texts of all facts as words, joined pairs of things."""

    entities: set[str]
    texts: list[list[str]]
    relations: set[tuple[str, str]]


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="CSV in DSG-1k's columns")
    proposed = read_propositions(parser.parse_args().file)
    load_model()
    started = time.perf_counter()
    for item in proposed:
        read_prompt(item.prompt)
    per_prompt = (time.perf_counter() - started) / len(proposed)
    readers = {
        "facts": [found_by_facts(item.prompt, making=False) for item in proposed],
        "facts and making": [found_by_facts(item.prompt, making=True) for item in proposed],
        "noun chunks": [found_by_chunks(item.prompt) for item in proposed],
    }
    rows = [row for name, found in readers.items() for row in measures(name, proposed, found)]
    rows += denials(proposed)
    write_rows(RESULTS, COLUMNS, rows)
    for row in rows:
        if row["prompts from"] == "all":
            print(f"{row['reader']:<18}{row['measure']:<34}{row['value']:.3f}  of {row['of']}")
    print(f"{1000 * per_prompt:.1f} ms a prompt")


def read_propositions(path: Path) -> list[Proposed]:
    """The propositions of each prompt of the file, in its order."""
    found: dict[str, Proposed] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            item = row["item_id"]
            own = found.setdefault(item, Proposed(row["text"], re.sub(r"_?\d+$", "", item)))
            parts = [words(part) for part in row["keywords"].split(",")]
            if not row["keywords"] or not all(parts):
                continue
            if row["category_broad"] == "entity":
                own.entities.add(words(row["keywords"])[-1])
            elif row["category_broad"] == "attribute" and len(parts) == 2:
                own.attributes.add((parts[0][-1], parts[1][-1]))
            elif row["category_broad"] == "relation" and len(parts) == 3:
                own.relations.add(tuple(sorted((parts[0][-1], parts[1][-1]))))
    return list(found.values())


def found_by_facts(prompt: str, making: bool) -> Found:
    """What the facts of the caption check name and say."""
    facts = prompt_facts(prompt)
    texts = [words(fact.text) for fact in facts]
    if making:
        texts += [words(text) for text in told_making(prompt)]
    things = {words(fact.text)[-1] for fact in facts if fact.kind == "thing" and fact.holds and words(fact.text)}
    relations = {
        tuple(sorted((words(fact.thing.noun)[-1], words(fact.object.noun)[-1])))
        for fact in facts
        if fact.kind == "relation" and words(fact.thing.noun) and words(fact.object.noun)
    }
    return Found(things, texts, relations)


def told_making(prompt: str) -> Iterator[str]:
    """Words on the making with what is made: "oil painting of a cat, highly detailed"."""
    reading = read_prompt(prompt)
    first = next((thing.only().phrase() for thing in reading.things if not thing.absent), "")
    medium = next((s for s in reading.style if any(singular_of(word) in MEDIA for word in s.split())), "")
    medium = medium.split(" by ")[0]
    for phrase in reading.style:
        yield f"{medium} of {first}, {phrase}"


def found_by_chunks(prompt: str) -> Found:
    """The bare parser: every noun chunk is a thing, and its words are said of it."""
    chunks = [words(chunk.text) for chunk in load_model()(prompt).noun_chunks if chunk.root.pos_ != "PRON"]
    return Found({chunk[-1] for chunk in chunks if chunk}, chunks, set())


def measures(reader: str, proposed: Sequence[Proposed], found: Sequence[Found]) -> Iterator[dict]:
    """The rows of one reader, of all prompts and of those from each source."""
    for source in ("all", *dict.fromkeys(item.source for item in proposed)):
        pairs = [(p, f) for p, f in zip(proposed, found, strict=True) if source in ("all", p.source)]
        right = sum(len(p.entities & f.entities) for p, f in pairs)
        named, wanted = sum(len(f.entities) for _, f in pairs), sum(len(p.entities) for p, _ in pairs)
        attributes = [said(f.texts, pair) for p, f in pairs for pair in p.attributes]
        relations = [pair in f.relations for p, f in pairs for pair in p.relations]
        clean = [f.entities <= p.entities for p, f in pairs]
        common = {"reader": reader, "prompts from": source}
        yield common | {"measure": "entities, precision", "value": right / max(1, named), "of": named}
        yield common | {"measure": "entities, recall", "value": right / max(1, wanted), "of": wanted}
        for name, hits in (("attributes, recall", attributes), ("relations, recall", relations),
                           ("prompts without a false entity", clean)):  # fmt: skip
            if hits:
                yield common | {"measure": name, "value": sum(hits) / len(hits), "of": len(hits)}


def denials(proposed: Sequence[Proposed]) -> Iterator[dict]:
    """Prompts with a denying word: in how many of them something is denied; and in how many of the others."""
    for name, has_word in (("prompts that deny, denial found", True), ("prompts that do not, denial found", False)):
        chosen = [p.prompt for p in proposed if bool(_DENYING.search(p.prompt)) == has_word]
        hits = [any(not fact.holds for fact in prompt_facts(prompt)) for prompt in chosen]
        yield {"reader": "facts", "prompts from": "all", "measure": name, "value": sum(hits) / max(1, len(hits)),
               "of": len(hits)}  # fmt: skip


def said(texts: Sequence[Sequence[str]], pair: tuple[str, str]) -> bool:
    """Whether one text holds both words."""
    return any(pair[0] in text and pair[1] in text for text in texts)


def words(text: str) -> list[str]:
    """Its words in lower case and the singular, by rough rules: the same for both sides."""
    return [_rough_singular(word) for word in re.findall(r"[\w'-]+", text)]


def _rough_singular(word: str) -> str:
    word = word.lower().strip(".,'\"()")
    for ending, instead in _ENDINGS:
        if word.endswith(ending):
            return word[: -len(ending)] + instead
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


if __name__ == "__main__":
    main()
