"""The documentation fails the tests when something is undocumented, out of date, or leads nowhere."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from forestall.cli import make_app
from forestall.replay.access.peers.registry import PEERS as ACCESS_PEERS
from forestall.replay.access.replay import BELADY
from forestall.replay.burst.peers import PEERS as BURST_PEERS
from forestall.replay.importers.formats import FORMATS
from forestall.replay.memory.peers import PEERS as MEMORY_PEERS
from forestall.replay.peers.registry import PEERS
from forestall.replay.traffic.peers import PEERS as TRAFFIC_PEERS
from forestall.replay.traffic.replay import ORACLE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "forestall"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FEATURES = {0: 10, 1: 14, 2: 15, 3: 10, 4: 12}
"""Lines of each part of the feature list."""
ROOTS = r"(?:src|docs|tests|benchmarks|\.ci)"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load(DOCS / "generate.py")
COMMANDS = list(GENERATE.commands(typer.main.get_command(make_app())))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _rows(page: str) -> list[list[str]]:
    """Cells of every row of every table of a page."""
    lines = _text(DOCS / page).splitlines()
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("name", GENERATE.pages())
def test_reference_pages_are_up_to_date(name: str) -> None:
    stale = f"docs/reference/{name} is out of date: run `make docs`"
    assert _text(DOCS / "reference" / name) == GENERATE.pages()[name], stale


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_every_command_is_documented(words: str, command: object) -> None:
    assert re.search(rf"^#+ `{re.escape(words)}`$", _text(DOCS / "reference" / "cli.md"), re.MULTILINE)
    assert getattr(command, "help", "")
    for parameter in getattr(command, "params", []):
        assert parameter.help or parameter.hidden, f"{words}: {parameter.name} says nothing about itself"
    if not getattr(command, "commands", None):
        assert f"Example: {words}" in " ".join(str(command.help).split()), f"{words}: --help has no example"  # type: ignore[attr-defined]


def test_every_line_of_the_feature_list_has_one_row() -> None:
    rows = [row for row in _rows("features.md") if re.fullmatch(r"\d\.\d+", row[0])]
    assert [row[0] for row in rows] == [f"{p}.{i}" for p, count in FEATURES.items() for i in range(1, count + 1)]
    for row in rows:
        assert len(row) == 5, row
        assert re.match(r"(done|partly|open)\b", row[2]), row
        if not row[2].startswith("open"):
            assert row[3], f"{row[0]} does not say where"


def test_every_peer_is_listed() -> None:
    listed = re.findall(r"`(\w+)`", " ".join(row[0] for row in _rows("peers.md")))
    staging, fabric = (*ACCESS_PEERS, BELADY, *MEMORY_PEERS), (*TRAFFIC_PEERS, ORACLE)
    assert sorted(listed) == sorted([*PEERS, *BURST_PEERS, *staging, *fabric])


def test_every_trace_format_is_mentioned() -> None:
    text = _text(DOCS / "operations.md")
    assert [name for name in FORMATS if name not in text] == []


def _links(text: str) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            yield target


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _links(_text(page)):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_mentioned_exists(page: Path) -> None:
    mentioned = re.findall(rf"`({ROOTS}/[\w./-]*)`", _text(page))
    made = ("benchmarks/results/",)
    assert [path for path in mentioned if path not in made and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_mentioned_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    mentioned = re.findall(r"(?:^ {4}|`)make ([a-z]+)", _text(page), re.MULTILINE)
    assert [target for target in mentioned if target not in targets] == []


def _examples(page: Path) -> Iterator[list[str]]:
    """Words of every line of a code block that calls the command."""
    for block in re.findall(r"^```sh$(.*?)^```$", _text(page), re.MULTILINE | re.DOTALL):
        yield from (line.split() for line in block.splitlines() if line.startswith("forestall "))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_calls_a_command_with_options_that_it_has(page: Path) -> None:
    unknown = []
    for words in _examples(page):
        command = max((path for path, _ in COMMANDS if words[: len(path.split())] == path.split()), key=len)
        known = {option for parameter in dict(COMMANDS)[command].params for option in parameter.opts}
        wrong = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
        if wrong or command == "forestall":
            unknown.append(" ".join([*words[:3], *wrong]))
    assert unknown == []


def test_the_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"^ {4}(make \w+)", _text(ROOT / "README.md"), re.MULTILINE))


def test_every_decision_is_numbered() -> None:
    numbers = [int(page.name[:4]) for page in sorted((DOCS / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def _undocumented(path: Path) -> Iterator[str]:
    """Public names of a module, and the public methods of its classes, that have no docstring."""
    tree = ast.parse(_text(path))
    if not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (f"{node.name}.{name}" for name in _silent(node.body))
    yield from _silent(tree.body)


def _silent(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            public = not node.name.startswith(("_", "test_"))
            if public and not ast.get_docstring(node):
                yield node.name


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert list(_undocumented(path)) == []
