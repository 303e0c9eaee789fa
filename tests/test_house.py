"""The house: which room may import which, no cycles, no crowded folder, no file too long; read with `ast`."""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES, MOST_LINES = 14, 400

# From the entries down to the ground: a package imports those after it, a room those after it.
PACKAGES = {
    "benchmarks": [],
    "tests": [],
    "docs": [],
    "tinyworld": [
        "", "pretrain", "models", "rated_pictures", "generated", "questions", "data", "oracle", "vocabulary", "scenes",
    ],
    "rl": [
        "", "ddpo_train", "direct_train", "nft_train", "matching_train", "dpo_train", "export_lora", "command",
        "packaged", "trainer", "training_state", "report",
        "monitoring", "updates", "lora", "runs", "rewards", "models", "sampling", "prompts", "config",
    ],
    "attention_refine": ["custom_generate", "", "probes", "vqa", "caption_check", "contrastive", "vlm"],
    "reward": [
        "", "cli", "serving", "explanation", "scoring", "evaluation", "training", "datasets", "named_models", "known",
        "hyperalign_reward", "trl_adapters", "model", "backbone", "language", "statistics", "pages", "images", "tables",
        "parallel", "files",
    ],
}  # fmt: skip
# What serves the outside may import everything, and the built-in world is named where a user may name it.
OUTSIDE = ("benchmarks", "tests", "docs")
ENTRIES = ("rl.packaged", "reward.cli.main", "attention_refine.caption_check.cli", "attention_refine.vqa.evaluate",
           "attention_refine.probes.probe")  # fmt: skip


def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages: dotted name -> file; a package by its own name."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(module: str, file: Path, known: Mapping[str, Path]) -> set[str]:
    """The known modules that a file imports, wherever in it, those for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import; write it out"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else str(node.module))
    return {name for name in found if name in known} - {module}


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle of a graph, its first name again at the end; empty: there is none."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack: list[tuple[str, Iterable[str]]] = [(start, iter(sorted(graph[start])))]
        path.append(start)
        while stack:
            name, rest = stack[-1]
            following = next((other for other in rest if other not in done), None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                path.append(following)
                stack.append((following, iter(sorted(graph[following]))))
    return []


def room(module: str) -> tuple[str, str]:
    """Package and room of a module; what lies beside the rooms is a room of its own, a package's face is ""."""
    package, _, rest = module.partition(".")
    return package, rest.split(".")[0]


def against_direction(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports that lead upwards, in words."""
    order = list(PACKAGES)
    wrong = []
    for module, imported in graph.items():
        package, own = room(module)
        if package in OUTSIDE:
            continue
        if own not in PACKAGES[package]:
            wrong.append(f"{module}: put the room {own!r} into its place in PACKAGES of {Path(__file__).name}")
            continue
        for other in imported:
            there, theirs = room(other)
            if there == package:
                rooms = PACKAGES[package]
                upwards = theirs in rooms and rooms.index(theirs) < rooms.index(own)
            else:
                upwards = order.index(there) <= order.index(package)
                upwards = upwards and not (there == "tinyworld" and module in ENTRIES)
            if upwards:
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def crowded(files: Iterable[Path]) -> list[str]:
    """Folders with too many Python files."""
    counts: dict[Path, int] = {}
    for file in files:
        counts[file.parent] = counts.get(file.parent, 0) + 1
    return [f"{folder}: {count} files" for folder, count in counts.items() if count > MOST_FILES]


@pytest.fixture(scope="module")
def house():
    known = modules(ROOT)
    return known, {module: imports(module, file, known) for module, file in known.items()}


def test_no_two_files_import_each_other(house):
    assert cycle(house[1]) == []


def test_imports_go_down(house):
    assert against_direction(house[1]) == []


def test_no_folder_is_crowded(house):
    assert crowded(house[0].values()) == []


def test_no_file_is_too_long(house):
    lengths = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in house[0].items()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


# The loop and its rules know two protocols, `Policy` and `Update`; words of a model family stay below them.
FAMILY_WORDS = re.compile(r"\b(unet|transformer|ddim|flow.?match\w*|stable_?diffusion|sdxl|sd3|flux)\b", re.IGNORECASE)


def test_the_loop_names_no_model_family():
    places = ["trainer.py", "training_state.py", "updates/*.py", "runs/*.py", "monitoring/*.py", "report/*.py"]
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for place in places
        for file in sorted((ROOT / "rl").glob(place))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if FAMILY_WORDS.search(line)
    ]
    assert found == []


def test_every_room_says_what_it_is(house):
    silent = [
        name for name, file in house[0].items()
        if file.name == "__init__.py" and not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_a_cycle_is_found():
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"a"}}) == ["a", "b", "d", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("reward.model.head", "reward.scoring.score", True),
        ("reward.scoring.score", "reward.model.head", False),
        ("reward.model.head", "rl.trainer", True),
        ("rl.sampling.ddim", "rl.updates.ddpo", True),
        ("rl.rewards.loading", "tinyworld", True),
        ("rl.packaged", "tinyworld", False),
        ("tinyworld.pretrain", "rl.trainer", False),
        ("tests.anything", "reward.cli.main", False),
        ("reward.attic.chest", "reward.files.writing", True),
    ],
)
def test_an_import_against_the_direction_is_found(module, imported, wrong):
    assert bool(against_direction({module: {imported}})) is wrong


def test_a_crowded_folder_is_found():
    assert crowded(Path(f"room/{number}.py") for number in range(MOST_FILES + 1)) == ["room: 15 files"]
    assert crowded(Path(f"room/{number}.py") for number in range(MOST_FILES)) == []


def test_imports_are_read_wherever_they_stand(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("import x.b\nif TYPE_CHECKING:\n    from x import c\n\ndef f():\n    from x.d import thing\n")
    assert imports("x.a", file, {"x": file, "x.b": file, "x.c": file, "x.d": file}) == {"x.b", "x.c", "x.d"}
