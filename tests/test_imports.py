"""Objects of a user's own: where they are found, and what is said where they are not."""

import dataclasses
import sys

import pytest

from freerun.imports import get_address, import_object, is_address
from freerun.settings import SettingError
from tests.helpers import raises

SOURCE = """\
from __future__ import annotations
from dataclasses import dataclass

@dataclass(frozen=True)
class Dates:
    size: int = 3

def cost(one, other):
    return 0.5
"""

THAWED = """\
from dataclasses import dataclass
from freerun.tasks import Digits

@dataclass
class Dates(Digits):
    pass
"""


@pytest.fixture(autouse=True)
def path(monkeypatch):
    """The current folder is not on the path yet."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])


def test_a_class_of_a_file_is_a_dataclass_like_any_other(here):
    (here / "dates.py").write_text(SOURCE)
    found = import_object("dates.py:Dates", "task")
    assert found(size=4).size == 4
    assert [field.name for field in dataclasses.fields(found)] == ["size"]


def test_a_file_is_imported_once_from_wherever_it_is_named(here):
    (here / "dates.py").write_text(SOURCE)
    found = import_object("dates.py:Dates", "task")
    assert import_object(f"{here}/dates.py:Dates", "task") is found
    assert get_address(found) == "dates.py:Dates"


def test_a_file_may_have_the_name_of_a_library(here):
    (here / "json.py").write_text(SOURCE)
    assert import_object("json.py:cost", "cost")(1, 2) == 0.5
    assert sys.modules["json"].dumps(1) == "1"


def test_a_module_of_the_current_folder_is_found_behind_installed_ones(here):
    (here / "own").mkdir()
    (here / "own" / "dates.py").write_text(SOURCE)
    found = import_object("own.dates:Dates", "task")
    assert get_address(found) == "own.dates:Dates"
    assert import_object(get_address(found), "task") is found
    assert import_object("math:sqrt", "cost")(4) == 2


def test_what_stands_in_a_function_or_script_has_no_address(monkeypatch):
    def inner():
        """Stands in no module."""

    assert get_address(inner) is None
    monkeypatch.setattr(SettingError, "__module__", "__main__")
    assert get_address(SettingError) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a.b:C", True),
        ("x/a.py:C", True),
        ("C:\\x\\a.py:C", True),
        ("spelling", False),
        (":C", False),
        ("a.b:", False),
        ("mle:k=2", False),
    ],
)
def test_what_has_the_form_of_an_address(text, right):
    assert is_address(text) == right


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("dates.Dates", "task 'dates.Dates': its address must have the form package.module:Name or "
         "path/to/file.py:Name"),
        ("gone.py:Dates", "task 'gone.py:Dates': there is no file gone.py in {here}"),
        ("own.gone:Dates",
         "task 'own.gone:Dates': there is no module own, neither installed nor in {here}"),
        ("dates.py:Datse",
         "task 'dates.py:Datse': there is no Datse in dates.py; did you mean 'Dates'?"),
        ("needs.py:Dates",
         "task 'needs.py:Dates': needs.py needs the module nowhere, which is not installed"),
        ("fails.py:Dates",
         "task 'fails.py:Dates': {here}/fails.py, line 2: ZeroDivisionError: division by zero"),
        ("thawed.py:Dates",
         "task 'thawed.py:Dates': {here}/thawed.py, line {line}: TypeError: cannot inherit "
         "non-frozen dataclass from a frozen one"),
        ("odd.py:Dates", "task 'odd.py:Dates': {here}/odd.py, line 1: '(' was never closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(here, address, message):
    (here / "dates.py").write_text(SOURCE)
    (here / "needs.py").write_text("import nowhere\n")
    (here / "fails.py").write_text("one = 1\none / 0\n")
    (here / "odd.py").write_text("print(\n")
    (here / "thawed.py").write_text(THAWED)
    # Python 3.10 names the line of the class, later versions that of the decorator.
    line = 5 if sys.version_info < (3, 11) else 4
    with raises(SettingError, message.format(here=here, line=line)):
        import_object(address, "task")


def test_a_file_that_failed_may_be_mended(here):
    (here / "fails.py").write_text("1 / 0\n")
    with pytest.raises(SettingError, match="ZeroDivisionError"):
        import_object("fails.py:cost", "cost")
    (here / "fails.py").write_text(SOURCE)
    assert import_object("fails.py:cost", "cost")(1, 2) == 0.5
