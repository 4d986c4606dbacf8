"""The house: its size, its public names, and what an import of it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import emergence_stats as es

ROOT = Path(es.__file__).parents[1]
HOUSES = ("emergence_stats", "simulator")
MODULES = [path for name in HOUSES for path in (ROOT / name).rglob("*.py")]
MOST_ENTRIES, MOST_LINES = 20, 400


@pytest.mark.parametrize("name", HOUSES)
def test_a_newcomer_can_hold_it(name):
    entries = {path.name for path in (ROOT / name).iterdir()} - {"__init__.py", "__pycache__"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_every_module_says_what_lives_there_on_few_pages():
    text = {str(path.relative_to(ROOT)): path.read_text() for path in MODULES}
    assert not [name for name, body in text.items() if not ast.get_docstring(ast.parse(body))]
    assert not [name for name, body in text.items() if len(body.splitlines()) >= MOST_LINES]


def test_tests_lie_where_what_they_test_lies():
    rooms = {path.parent.relative_to(ROOT / HOUSES[0]) for path in (ROOT / HOUSES[0]).rglob("*.py")}
    rooms |= {path.parent.relative_to(ROOT) for path in (ROOT / HOUSES[1]).rglob("*.py")}
    tested = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")}
    assert tested <= rooms | {Path("benchmarks")}


def test_public_names_are_there_and_nothing_else_is_shown():
    assert dir(es) == sorted(es.__all__)
    for name in es.__all__:
        assert name == "__version__" or getattr(es, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'compere'"):
        es.compere  # noqa: B018


def test_importing_it_loads_nothing_heavy():
    heavy = ("torch", "pymc", "matplotlib", "numba", "arviz", "xarray", "pandas", "numpy")
    code = (
        "import sys, emergence_stats, emergence_stats.cli; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
