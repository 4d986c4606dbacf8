"""README and docs promise nothing that is not there: links, commands, public names, length.

What lives here: checks of text. What does not: the examples in it, which pytest runs as doctests.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import emergence_stats
import simulator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = PAGES[0].read_text(encoding="utf-8")
ENTRY_POINT_GROUPS = ("emergence_stats.commands", "emergence_stats.structures")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def links(text: str) -> list[str]:
    """Targets within the repository."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in found if not link.startswith(("http://", "https://"))]


@every_page
def test_relative_links_exist(page):
    missing = [
        link
        for link in links(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not missing


@every_page
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (benchmarks[\w.]*)", text))
    assert not [name for name in modules if importlib.util.find_spec(name) is None]
    targets = set(re.findall(r"`make (\w+)", text)) | set(
        re.findall(r"^make (\w+)", text, re.MULTILINE)
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def test_readme_is_a_front_door():
    assert len(README.split()) <= 1200


def table(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("package", [emergence_stats, simulator], ids=lambda one: one.__name__)
def test_readme_names_every_public_name(package):
    named = set(re.findall(r"\w+", table(README)))
    assert not set(package.__all__) - named


def test_readme_names_nothing_else():
    named = set(re.findall(r"\bes\.(\w+)", README))
    assert not named - set(emergence_stats.__all__)


@every_page
def test_dotted_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:emergence_stats|simulator)(?:\.\w+)+)", text)):
        if name not in ENTRY_POINT_GROUPS:
            pkgutil.resolve_name(name)


def test_paths_of_the_architecture_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`(\w+/[\w/]*(?:\.py)?)`", text))
    assert len(paths) > 10
    homes = (ROOT, ROOT / "emergence_stats", ROOT / "simulator")
    assert not [path for path in paths if not any((home / path).exists() for home in homes)]


def test_architecture_draws_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text[: text.index("## ")]
    for package in (emergence_stats, simulator):
        entries = Path(package.__file__).parent.iterdir()
        names = {one.name + "/" for one in entries if (one / "__init__.py").exists()}
        assert not [name for name in names if name not in drawing]
