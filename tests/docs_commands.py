"""The commands that README, CONTRIBUTING, docs/ and benchmarks/README.md give, and what is wrong with one.

Nothing is run: a command's flags and values are given to the parser of what it calls, its recipe is loaded, and the
files and modules that it names must be there. `tests/docs_check.py` runs them.
"""

import ast
import configparser
import contextlib
import functools
import importlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rl.command import RULES, imported
from tests.entry_points import PACKAGES, ROOT, WITHOUT_PARSER, parser_of_function, parser_of_script, sub_commands

PAGES = (
    "README.md", "CONTRIBUTING.md", "benchmarks/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
)  # fmt: skip
# Programs that are not ours: what follows them is not looked at.
FOREIGN = ("pip", "source", "export", "hf", "git", "cd")
TRAINERS = {f"rl/{rule}_train.py": rule for rule in RULES}
_FOLDERS = (*PACKAGES, "configs", "docs", "tests")
_PATH = re.compile(rf"(?:{'|'.join(_FOLDERS)})/[\w./*-]*")


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Args:
        page, line: where it stands.
        words: program and arguments; a script on standard input is the word after "-".
        environment: variables set in front of it.
        is_shape: it stands in running text, with words such as PATH for what a reader puts there.
    """

    page: str
    line: int
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    is_shape: bool = False

    def __str__(self) -> str:
        text = " ".join(shlex.join(self.words).split())
        return f"{self.page}:{self.line}: {text[:150]}{'...' if len(text) > 150 else ''}"


def read_commands(page: str) -> list[Command]:
    """The commands of a page: of its shell blocks, its indented blocks, and those in running text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for line, language, body in blocks(text):
        if language in ("bash", "sh", "shell", "console"):
            found += _shell(page, line, body)
    rest = re.sub(r"(?ms)^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text)
    for match in re.finditer(r"(?m)^ {4}(?=\S)(?:.*\\\n)*.*$", rest):
        words = match[0].split()
        if _is_program(words[0]):
            found += _shell(page, rest.count("\n", 0, match.start()) + 1, match[0])
    for match in re.finditer(r"`([^`]+)`", rest):
        words = match[1].replace("…", "...").split()
        if len(words) > 1 and (words[0] in console_scripts() or words[0] in ("make", "python", "accelerate")):
            found.append(Command(page, rest.count("\n", 0, match.start()) + 1, tuple(words), is_shape=True))
    return found


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(line of its first line, language, body) of every fenced block."""
    for match in re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", text):
        yield text.count("\n", 0, match.start()) + 2, match[1], match[2]


def _shell(page: str, line: int, text: str) -> Iterator[Command]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        start, command = number, lines[number]
        number += 1
        # what goes on after a backslash or inside quotes
        while number < len(lines) and (command.endswith("\\") or not _is_whole(command)):
            command = f"{command.removesuffix(chr(92))}\n{lines[number]}"
            number += 1
        heredoc = re.search(r"<<-?'?(\w+)'?", command)
        script = []
        if heredoc:
            while lines[number] != heredoc[1]:
                script.append(lines[number])
                number += 1
            number += 1
            command = command[: heredoc.start()]
        for words in _split(command):
            environment = {}
            while words and re.match(r"\w+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
            if words:
                yield Command(page, line + start, (*words, *(["\n".join(script)] if heredoc else [])), environment)


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def _split(command: str) -> list[list[str]]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            found.append([])
        else:
            found[-1].append(word)
    return found


def _is_program(word: str) -> bool:
    return re.match(r"\w+=", word) is not None or word in (*FOREIGN, *console_scripts(), "make", "python", "accelerate")


@functools.cache
def console_scripts() -> dict[str, str]:
    """Console script -> module:function, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    return {name.strip(): target.strip() for name, _, target in (line.partition("=") for line in lines)}


def problems(command: Command) -> list[str]:
    """What would go wrong with a command, in words; empty: nothing that can be seen without running it."""
    program, *words = command.words
    program = program.removeprefix(".venv/bin/")
    found = [f"{path} is not there" for path in _paths(command.words) if not list(ROOT.glob(path.rstrip("/.")))]
    if program == "make":
        known = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
        wrong = [word for word in words if re.fullmatch("[a-z-]+", word) and word not in known]
        return found + [f"make has no target {word}" for word in wrong]
    if program == "accelerate" and words[:1] == ["launch"]:
        return found + _accelerate(command, words[1:])
    if program == "python":
        return found + _python(command, words)
    if program in console_scripts():
        return found + _arguments(command, console_scripts()[program], words)
    return found if program in FOREIGN else [*found, f"{program} is no program of ours"]


def _paths(words: Sequence[str]) -> list[str]:
    return [word for word in (part for word in words for part in word.split("=", 1)) if _PATH.fullmatch(word)]


def _accelerate(command: Command, words: list[str]) -> list[str]:
    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    if command.is_shape:
        place = next((i for i, word in enumerate(words) if word == "-m" or word.endswith(".py")), len(words))
        return _unknown_flags(parser, words[:place]) + (_python(command, words[place:]) if words[place:] else [])
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            found = parser.parse_args(words)
    except SystemExit:
        return [told.getvalue().strip().splitlines()[-1]]
    module = ["-m"] if found.module else []
    return _python(command, [*module, found.training_script, *found.training_script_args])


def _python(command: Command, words: list[str]) -> list[str]:
    if words[0] in ("-", "-c"):
        return code_problems(words[1])
    if words[0] == "-m":
        return _module(command, words[1], words[2:])
    return _arguments(command, words[0], words[1:]) if (ROOT / words[0]).is_file() else [f"there is no {words[0]}"]


def _module(command: Command, module: str, words: list[str]) -> list[str]:
    if module.split(".")[0] not in PACKAGES:
        return [] if importlib.util.find_spec(module) else [f"there is no module {module}"]
    base = Path(*module.split("."))
    for file in (base / "__main__.py", base.with_suffix(".py")):
        if (ROOT / file).is_file():
            return _arguments(command, str(file), words)
    return [f"there is no module {module}"]


@functools.cache
def _parser(target: str):
    return parser_of_function(target) if ":" in target else parser_of_script(target)


def _arguments(command: Command, target: str, words: list[str]) -> list[str]:
    """Give the words to the parser of a script or `module:function`."""
    if target in WITHOUT_PARSER or target.startswith("docs/"):
        return [] if not words or command.is_shape else [f"{target} takes no arguments, but is given {' '.join(words)}"]
    if target.startswith("tests/"):
        return []
    parser = _parser(target)
    if command.is_shape:
        commands = sub_commands(parser)
        if commands and words[0] not in commands:
            return [f"there is no sub-command {words[0]}"]
        return _unknown_flags(commands[words[0]] if commands else parser, words)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            _, rest = parser.parse_known_args(words)
    except SystemExit:
        return [told.getvalue().strip().splitlines()[-1]]
    if rest:
        return [f"{target} does not know {' '.join(rest)}"]
    script = f"{target.removesuffix(':main').replace('.', '/')}.py" if ":" in target else target
    return _trainer(script, words) if script in TRAINERS else []


def _unknown_flags(parser, words: Sequence[str]) -> list[str]:
    flags = [word.split("=")[0] for word in words if re.match("--[a-z]", word)]
    return [f"there is no flag {flag}" for flag in flags if flag not in parser._option_string_actions]


def _trainer(script: str, words: list[str]) -> list[str]:
    """Load the recipe with the flags that change it, as the trainer does; functions of ours must exist."""
    from rl.config.functions import import_function
    from rl.config.loading import load_config
    from rl.packaged import packaged_recipe

    rule = TRAINERS[script]
    kind, recipe = imported(RULES[rule][0]), packaged_recipe(f"{rule}.yaml")
    for flag in ("--resume_from", "--config"):
        # a reader's own recipe, or what another command leaves: parsed is enough
        if flag in words and not (ROOT / words[words.index(flag) + 1]).is_file():
            return []
    try:
        config = load_config(kind, words, default_recipe=recipe)
        for spec in [*config.rewards, *config.eval_rewards, config.prompts]:
            if spec.split(".")[0] in PACKAGES and ":" in spec:
                import_function(spec.partition("=")[0].partition("@")[0], "rewards")
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


def code_problems(code: str) -> list[str]:
    """Python that does not parse, or imports names that are not there."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return [f"not Python: {error}"]
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module, alias.name) for alias in node.names]
        for module, name in names:
            if module.split(".")[0] in PACKAGES:
                found += _import_problem(module, name)
    return found


def _import_problem(module: str, name: str | None) -> list[str]:
    try:
        loaded = importlib.import_module(module)
        if name is None or hasattr(loaded, name) or importlib.util.find_spec(f"{module}.{name}"):
            return []
    except ImportError as error:
        return [f"cannot import {module}: {error}"]
    return [f"{module} has no {name}"]


def page_problems(page: str) -> list[str]:
    """Links and files that a page names and that are not there, and Python in it that cannot be imported."""
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    found = []
    for line, language, body in blocks(text):
        if language == "python":
            found += [f"{page}:{line}: {problem}" for problem in code_problems(body)]
    rest = re.sub(r"(?ms)^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text)
    for match in re.finditer(r"\]\(([^)#\s]+)", rest):
        if "://" not in match[1] and not (folder / match[1]).exists():
            found.append(f"{page}:{rest.count(chr(10), 0, match.start()) + 1}: no file at the link {match[1]}")
    for match in re.finditer(rf"`({_PATH.pattern})`", rest):
        path = match[1].rstrip("/.")
        if not list(ROOT.glob(path)) and not list(folder.glob(path)) and not Path(path).name.isupper():
            found.append(f"{page}:{rest.count(chr(10), 0, match.start()) + 1}: there is no {match[1]}")
    for match in re.finditer(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?::(\w+))?`", rest):
        problem = _dotted_problem(match[1], match[2])
        if problem:
            found.append(f"{page}:{rest.count(chr(10), 0, match.start()) + 1}: {problem}")
    return found


def _dotted_problem(dotted: str, function: str | None) -> str:
    """A module, a module's attribute or an attribute's attribute that is not there; empty: it is."""
    parts = dotted.split(".")
    if parts[-1] in ("yaml", "py", "csv", "md"):
        return ""
    value, place = None, 0
    for place in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            value = importlib.import_module(".".join(parts[:place]))
            break
    for name in [*parts[place:], *([function] if function else [])]:
        if not hasattr(value, name):
            return f"{dotted}{f':{function}' if function else ''} is not there: no {name}"
        value = getattr(value, name)
    return ""
