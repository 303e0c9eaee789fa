"""DSG-1k's prompts, where they are: HYPERALIGN_DATASETS, or shared/datasets beside the repository."""

import os
from pathlib import Path

import pytest

from benchmarks.prompt_reading.run import found_by_facts, measures, read_propositions

ROOT = Path(__file__).parents[3]
FILE = Path(os.environ.get("HYPERALIGN_DATASETS", ROOT.parent / "shared" / "datasets")) / "DSG-1k" / "dev.csv"
LEAST = {
    "entities, precision": 0.80,
    "entities, recall": 0.89,
    "attributes, recall": 0.60,
    "relations, recall": 0.45,
    "prompts without a false entity": 0.60,
}


def test_what_people_checked_is_found():
    if not FILE.is_file():
        pytest.skip(f"no {FILE}")
    proposed = read_propositions(FILE)
    found = [found_by_facts(item.prompt, making=False) for item in proposed]
    rows = [row for row in measures("facts", proposed, found) if row["prompts from"] == "all"]
    values = {row["measure"]: row["value"] for row in rows}
    assert values.keys() == LEAST.keys()
    assert {name: value for name, value in values.items() if value < LEAST[name]} == {}
