"""What `freerun` itself exports: a list that changes only with the version policy."""

import ast
import os
import subprocess
import sys

import pytest

import freerun
from freerun.methods import METHODS
from tests.pages import ROOT

FUNCTIONS = {"adapt", "compare", "diagnose", "evaluate", "fit", "load", "load_policy"}
CLASSES = {"ExposureBiasCallback", "Method", "Trainer", "TrainingSettings"}


def test_the_list_of_public_names():
    methods = {method.__name__ for method in METHODS.values()}
    assert set(freerun.__all__) == {*FUNCTIONS, *CLASSES, *methods, "__version__"}, (
        "add a new method to freerun/__init__.py; other names only with a reason"
    )
    assert set(freerun.__all__) <= set(dir(freerun))


@pytest.mark.parametrize("name", freerun.__all__)
def test_a_public_name_is_the_one_that_type_checkers_see(name):
    if name == "__version__":
        return
    tree = ast.parse((ROOT / "src" / "freerun" / "__init__.py").read_text("utf-8"))
    (module,) = (
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    )
    __import__(module)
    assert getattr(freerun, name) is getattr(sys.modules[module], name)
    assert getattr(freerun, name).__doc__


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"^module 'freerun' has no attribute 'Loader'$"):
        freerun.Loader  # noqa: B018


@pytest.mark.slow
def test_a_strict_project_of_a_user_passes(tmp_path):
    """With no settings of ours, as where freerun is installed; `make lint` checks it in short."""
    options = f"--strict --follow-imports=silent --config-file= --cache-dir {tmp_path}"
    project = ROOT / "tests" / "typed" / "project.py"
    command = [sys.executable, "-m", "mypy", *options.split(), str(project)]
    path = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=path)
    assert done.returncode == 0, done.stdout


def test_importing_freerun_imports_no_library():
    heavy = "{name for name in ('torch', 'transformers', 'numpy', 'rich') if name in sys.modules}"
    code = f"import sys, freerun; assert freerun.__version__; assert not {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)
