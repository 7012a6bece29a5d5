"""What freerun overrides of transformers' Trainer is still there, and is called as it was."""

import inspect
import re

import pytest
import transformers
from transformers.utils.versions import require_version

from freerun.training import Trainer
from freerun.training.overrides import TrainerOverrides
from tests.pages import ROOT

THEIRS = transformers.Trainer
OURS = Trainer.__mro__[: Trainer.__mro__.index(THEIRS)]
OVERRIDDEN = sorted(
    {
        (cls, name)
        for cls in OURS
        for name in vars(cls)
        if hasattr(THEIRS, name) and not re.fullmatch("__.*__", name)
    },
    key=str,
)
VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def parameters(cls, name):
    return list(inspect.signature(vars(cls)[name]).parameters.values())


def accepts(ours, theirs):
    """Whether a method of ours can be called in every way in which theirs can."""
    kinds = {parameter.kind for parameter in ours}
    positional, named = (kind in kinds for kind in sorted(VARIADIC))
    plain = [parameter for parameter in ours if parameter.kind not in VARIADIC]
    for place, parameter in enumerate(theirs):
        by_name = next((one for one in plain if one.name == parameter.name), None)
        at_place = plain[place] if place < len(plain) else None
        if not (positional or at_place is not None):
            return f"{parameter.name} is not accepted"
        if parameter.default is not parameter.empty:
            if not (named or by_name is not None):
                return f"{parameter.name} is not accepted by name"
            if by_name is not None and by_name.default is by_name.empty:
                return f"{parameter.name} has a default in transformers"
    extra = [one for one in plain[len(theirs) :] if one.default is one.empty]
    return f"{extra[0].name} is not given" if extra else None


@pytest.mark.parametrize(
    ("cls", "name"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_an_override_is_called_as_transformers_calls_it(cls, name):
    assert accepts(parameters(cls, name), parameters(THEIRS, name)) is None


def test_every_private_name_that_is_defined_is_one_of_transformers():
    private = {name for name in vars(TrainerOverrides) if re.match("_(?!_)", name)}
    own = {name for name in private if callable(getattr(TrainerOverrides, name))}
    assert len(own) >= 14
    assert {name for name in own if name not in vars(THEIRS)} == set()


def test_private_methods_are_overridden_in_one_file_with_a_reason():
    for cls, name in OVERRIDDEN:
        if name.startswith("_"):
            assert cls is TrainerOverrides, name
        if cls is TrainerOverrides:
            assert len(vars(cls)[name].__doc__) > 20, name


def test_private_methods_that_are_called_exist():
    source = inspect.getsource(TrainerOverrides)
    called = set(re.findall(r"(?:self|super\(\))\.(_[a-z]\w*)", source))
    assert called >= {"_save_scaler", "_save_rng_state", "_load_scaler"}
    assert {name for name in called if not hasattr(THEIRS, name)} == set()


def test_the_check_sees_what_is_not_accepted():
    def theirs(self, first, second=None): ...
    def renamed(self, first, other=None): ...
    def shorter(self, first): ...
    def longer(self, first, second, third): ...
    def variadic(self, *args, **kwargs): ...

    def between(ours):
        found = [list(inspect.signature(each).parameters.values()) for each in (ours, theirs)]
        return accepts(*found)

    assert between(theirs) is None
    assert between(variadic) is None
    assert between(renamed) == "second is not accepted by name"
    assert between(shorter) == "second is not accepted"
    assert between(longer) == "second has a default in transformers"


def test_the_version_of_transformers_is_bounded():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bound = re.search('"(transformers[<>=][^"]*)"', project)[1]
    assert bound == "transformers>=5.6,<6"
    require_version(bound)
