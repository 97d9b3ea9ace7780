"""What the documents point to exists: links, commands with their options, passes and errors."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvm_probq import errors
from tvm_probq.cli.main import COMMANDS, make_parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
PAGES = (
    "architecture", "artefact", "boards", "cuda", "errors", "numerics", "operators", "passes",
    "planning", "targets", "tuning",
)  # fmt: skip

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONSTANT = re.compile(r"^\| `([A-Z_]+)` \| ([\d.]+) \| `([\w.]+)` \|$", re.MULTILINE)
PASS = re.compile(r"module_pass\([^)]*name=\"probq\.(\w+)\"")
MENTION = re.compile(r"`tvm-probq ([a-z]+)")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|home|opt|tmp|root)/")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(text_of(path)) if name == language]


def command_lines(path: Path) -> Iterator[str]:
    """Lines of shell blocks that call the program; a backslash joins two of them."""
    for name, body in BLOCK.findall(text_of(path)):
        if name in ("", "sh", "console"):
            for line in body.replace("\\\n", " ").splitlines():
                stripped = line.strip().removeprefix("$ ")
                if stripped.startswith("tvm-probq "):
                    yield stripped


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text_of(path), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


def test_every_page_is_there() -> None:
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} >= set(PAGES)
    readme = text_of(ROOT / "README.md")
    for page in PAGES:
        assert f"docs/{page}.md" in readme


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_relative_links_resolve(path: Path) -> None:
    for link in LINK.findall(text_of(path)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert not anchor or anchor in anchors(target), f"{link} has no such section"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_commands_exist_and_take_their_options(path: Path) -> None:
    assert set(MENTION.findall(text_of(path))) <= set(COMMANDS)
    for line in command_lines(path):
        make_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_readme_lists_every_command() -> None:
    readme = text_of(ROOT / "README.md")
    assert [name for name in COMMANDS if f"| `{name}" not in readme] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_no_path_of_a_machine(path: Path) -> None:
    assert not MACHINE_PATHS.search(text_of(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_python_blocks_compile(path: Path) -> None:
    for block in blocks(path, "python"):
        compile(block, ids(path), "exec")


@pytest.mark.slow
def test_the_readme_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the example's images come with scikit-learn")
    (example, *_) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_pass_is_described_with_before_and_after() -> None:
    page = text_of(ROOT / "docs" / "passes.md")
    names = PASS.findall("".join(map(text_of, passes())))
    assert len(names) >= 10
    for name in names:
        assert f"\n### {name}\n" in page, f"docs/passes.md does not describe {name}"


def passes() -> list[Path]:
    return sorted((ROOT / "passes").glob("*.py"))


def test_constants_have_the_values_that_are_documented() -> None:
    rows = CONSTANT.findall(text_of(ROOT / "docs" / "numerics.md"))
    assert len(rows) >= 5
    for name, value, module in rows:
        assert getattr(importlib.import_module(module), name) == float(value), name


def test_every_error_is_described() -> None:
    page = text_of(ROOT / "docs" / "errors.md")
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.ProbqError):
            assert f"`{name}`" in page, f"docs/errors.md does not describe {name}"


def test_every_target_is_described() -> None:
    page = text_of(ROOT / "docs" / "targets.md")
    for profile in (ROOT / "targets").glob("*.toml"):
        assert f"`{profile.stem}`" in page, f"docs/targets.md does not name {profile.stem}"
