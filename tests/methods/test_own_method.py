"""Methods of a user's own, by their address."""

from pathlib import Path

import pytest

from freerun.methods import MLE, find_method
from freerun.settings import SettingError
from freerun.study import parse_method, parse_methods
from tests.helpers import raises

SOURCE = """\
from dataclasses import dataclass
from typing import ClassVar
from freerun.methods import MLE, Method

@dataclass(frozen=True, kw_only=True)
class Double(MLE):
    name: ClassVar[str] = "double"
    factor: float = 2.0

@dataclass(frozen=True, kw_only=True)
class Half(Method):
    name: ClassVar[str] = "half"

class Loose(MLE):
    pass

def number():
    return 3
"""


@pytest.fixture(autouse=True)
def own(here):
    """A file of one's own methods, in the current folder."""
    (here / "mine.py").write_text(SOURCE)


def test_a_method_is_found_by_name_or_address():
    assert find_method("mle") is MLE
    double = find_method("mine.py:Double")
    assert parse_method("mine.py:Double") == double()
    assert parse_method("mine.py:Double:factor=3") == double(factor=3.0)


def test_variants_of_a_method_by_address():
    spec = "mine.py:Double:factor=3,label_smoothing=0.1"
    assert list(parse_methods(["mle", spec])) == ["mle", spec]
    found = parse_methods({"mine.py:Double": {"factor": 3}, "four": {"mine.py:Double": None}})
    double = find_method("mine.py:Double")
    assert found == {"mine.py:Double": double(factor=3.0), "four": double()}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:Doubl",
         "method 'mine.py:Doubl': there is no Doubl in mine.py; did you mean 'Double'?"),
        ("yours.py:Double", "method 'yours.py:Double': there is no file yours.py in {here}"),
        ("mine.py:number",
         "method 'mine.py:number': it is not a subclass of freerun.methods.Method"),
        ("mine.py", "unknown method 'mine.py'; name its object, as in mine.py:MyMethod"),
        ("mine.py:Half", "method 'mine.py:Half': its class must define loss, paper, summary"),
        ("mine.py:Loose",
         "method 'mine.py:Loose': it is not a dataclass, whose fields are its settings"),
        ("mine.py:Double:facto=3",
         "method 'mine.py:Double:facto=3': unknown setting 'facto'; did you mean 'factor'?"),
        ("mine.py:Double:factor=x",
         "method 'mine.py:Double:factor=x': factor is 'x'; it must be a number"),
    ],
)  # fmt: skip
def test_wrong_addresses_are_refused(spec, message):
    with raises(SettingError, message.format(here=Path.cwd())):
        parse_method(spec)


def test_messages_name_the_variant():
    message = "^odd: method 'mine.py:Half': its class must define loss, paper, summary$"
    with pytest.raises(SettingError, match=message):
        parse_methods({"odd": {"mine.py:Half": None}})
