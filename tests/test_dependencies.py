"""The libraries that freerun imports are those that it declares."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "freerun"


def imports(tree):
    """The packages that a module imports when it is itself imported."""
    bodies = [tree.body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.Import):
                yield from (name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                bodies.append(node.orelse)
            elif not isinstance(node, ast.FunctionDef):
                bodies += [getattr(node, name, []) for name in ("body", "orelse", "handlers")]


def plain(name):
    return re.split(r"[^\w.-]", name, maxsplit=1)[0].lower().replace("_", "-")


def test_whatever_is_imported_without_an_extra_is_a_dependency():
    tomllib = pytest.importorskip("tomllib")  # since Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = set(map(plain, project["dependencies"]))
    # A user's own tests import freerun.testing, and with it pytest.
    modules = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "testing.py"]
    found = {name for path in modules for name in imports(ast.parse(path.read_text("utf-8")))}
    homes = packages_distributions()
    needed = {plain(homes[name][0]) for name in found - set(sys.stdlib_module_names) - {"freerun"}}
    assert needed - declared == set()
    assert "torch" in needed
    assert declared - needed == set()
