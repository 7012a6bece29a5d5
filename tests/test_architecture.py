"""The floors of the package: a module uses only modules below it."""

import ast
import builtins
import dis
import importlib
from pathlib import Path

import pytest

import freerun

ROOT = Path(freerun.__file__).parent
FLOORS = [
    {"arguments", "backspaces", "batch", "chunks", "console", "costs", "digests", "errors",
     "explanations", "files", "hub", "imports", "losses", "randomness", "relaxations",
     "schedules", "settings", "vocabulary", "yaml_reader"},
    {"references"},
    {"policy", "data"},
    {"metrics"},
    {"tasks"},
    {"decoding", "models", "roll_in", "roll_out", "testing", "trajectories"},
    {"evaluation", "methods"},
    {"report", "training"},
    {"study"},
    {"cli"},
]  # fmt: skip
ABOVE_ALL = {"__init__", "__main__"}
LOWEST_ALONE = {"costs", "losses"}
"""Pure functions, to be used in anyone's own loop: they import only the checks of arguments."""


def package(path):
    """The package or module of freerun that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor(name):
    return next(i for i, packages in enumerate(FLOORS) if name in packages)


def imported(path):
    """The packages that a file imports from, those for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
            if node.module == "freerun":
                names = [f"freerun.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (n.split(".")[1] for n in names if n.startswith("freerun.") and n[8] != "_")


FILES = sorted(ROOT.rglob("*.py"))


def test_every_room_has_a_floor():
    packages = {package(path) for path in FILES} - ABOVE_ALL
    assert packages == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_uses_only_packages_below_it(path):
    own = package(path)
    if own in ABOVE_ALL:
        return
    others = set(imported(path)) - {own}
    assert {other for other in others if floor(other) > floor(own)} == set()
    if own in LOWEST_ALONE:
        assert others <= {"arguments"}


def test_packages_of_one_floor_do_not_use_each_other_in_a_circle():
    uses = {(package(path), other) for path in FILES for other in imported(path)}
    uses = {(one, other) for one, other in uses if one != other and one not in ABOVE_ALL}
    for packages in FLOORS:
        left = {(one, other) for one, other in uses if one in packages and other in packages}
        while left:
            free = {other for _, other in left} - {one for one, _ in left}
            assert free, f"packages of one floor use each other: {sorted(left)}"
            left = {(one, other) for one, other in left if other not in free}


def test_the_top_module_is_light():
    """Losses and costs are wanted without the rest."""
    packages = {node.split(".")[0] for node in _eager(ROOT / "__init__.py")}
    assert packages == set()


def _eager(path):
    """What a module imports from freerun at once, not inside a function or for type checking."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("freerun"):
            yield str(node.module)


def _codes(code):
    """A code object and those of the functions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _codes(constant)


MODULES = [path for path in FILES if path.stem != "__main__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_global_name_is_defined(path):
    """Linters cannot tell: to them, the shapes of jaxtyping are undefined names, too."""
    names = path.relative_to(ROOT.parent).with_suffix("").parts
    module = importlib.import_module(".".join(names).removesuffix(".__init__"))
    known = vars(module).keys() | vars(builtins).keys()
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    read = {
        step.argval
        for each in _codes(code)
        for step in dis.get_instructions(each)
        if step.opname == "LOAD_GLOBAL"
    }
    assert read - known == set()
