"""The site of the documentation has every page, and its reference every public name."""

import ast
import importlib
import inspect
import re
import sys
from types import ModuleType

import pytest
import yaml

from freerun.metrics import Metric
from tests.pages import PAGES, ROOT, anchors, name_of

INTERNAL = {"freerun.cli", "freerun.methods.sequence_match", "freerun.models.recurrent"}
"""Packages without a page of their own: their public names are on the page of another."""
RENAMED = {"docs/README.md": "contents.md", "README.md": "index.md"}
"""Pages that have another name in the site; see PAGES in docs/site/hooks.py."""


def entries(nav):
    """The pages of the navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in entries(part)]


CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
ENTRIES = entries(CONFIG["nav"])
MODULES = [uri[4:-3] for uri in ENTRIES if uri.startswith("api/")]


def test_the_navigation_has_every_page():
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            entry = RENAMED.get(name_of(page), page.relative_to(ROOT / "docs").as_posix())
            assert entry in ENTRIES, f"add this line to nav in mkdocs.yml: '- TITLE: {entry}'"


def test_the_navigation_names_a_page_once_and_only_pages_that_exist():
    assert sorted(set(ENTRIES)) == sorted(ENTRIES)
    outside = {name.lower() for name in map(name_of, PAGES) if "/" not in name}
    for entry in set(ENTRIES) - set(RENAMED.values()):
        if not entry.startswith("api/"):
            assert (ROOT / "docs" / entry).exists() or entry in outside, entry


def test_every_public_package_has_a_page():
    root = ROOT / "src" / "freerun"
    packages = {
        ".".join(("freerun", *path.parent.relative_to(root).parts))
        for path in root.rglob("__init__.py")
        if "__all__" in path.read_text("utf-8")
    }
    missing = packages - set(MODULES) - INTERNAL
    assert not missing, "add '- api/MODULE.md' to nav in mkdocs.yml, or the package to INTERNAL"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module):
    there = importlib.import_module(module)
    names = getattr(there, "__all__", None) or [
        name
        for name, value in vars(there).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    assert names
    for name in names:
        if not name.startswith("_"):
            assert is_documented(there, name), f"{module}.{name} has no docstring"


def is_documented(module, name):
    """Whether a class or function has a docstring of its own, or a constant a text below it."""
    value = getattr(module, name)
    value = value.function if isinstance(value, Metric) else value
    if isinstance(value, ModuleType) or inspect.isclass(value) or inspect.isroutine(value):
        return bool(value.__doc__)
    return any(name in described(ast.parse(inspect.getsource(m))) for m in origins(module, name))


def origins(module, name):
    """The modules that a name comes through, from a package to where it is assigned."""
    while True:
        yield module
        found = [
            node.module
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
        ]
        if not found:
            return
        module = sys.modules[found[0]]


def described(tree):
    """The names that are assigned in a module, and explained by a text below."""
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_picture_has_an_alternative_text(page):
    for text, picture in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text("utf-8")):
        assert len(text) > 10, f"{name_of(page)}: say in [] what {picture} shows"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_anchors_of_the_site_are_those_of_the_repository(page, monkeypatch):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    slug = importlib.import_module("hooks").slug
    headings = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text()), re.M)
    assert {slug(heading, "-") for heading in headings} == anchors(page)
