"""Settings of dataclasses: what is read of text, what is refused and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pytest

from freerun.costs import PythonCost
from freerun.methods import METHODS, ScheduledSampling
from freerun.models.settings import RecurrentSettings
from freerun.settings import (
    MISSING,
    SettingError,
    build,
    convert,
    did_you_mean,
    settings_of,
    spelt,
    values_of,
    words,
)
from freerun.tasks import TASKS
from freerun.training import TrainingSettings

FLAVOUR = Literal["sweet", "sour"]


@dataclass(frozen=True)
class Cake:
    """A cake.

    Args:
        name: what it is called.
        eggs: how many eggs it takes,
            at least 1.
        flavour: how it tastes.
        layers: how thick each is.
    """

    name: str
    eggs: int = 2
    flavour: FLAVOUR = "sweet"
    layers: list[float] = field(default_factory=lambda: [1.0])

    def __post_init__(self):
        if self.eggs < 1:
            raise ValueError(f"eggs is {self.eggs}; it must be at least 1")


def test_settings_are_described_by_the_docstring():
    found = settings_of(Cake)
    assert [setting.name for setting in found.values()] == ["name", "eggs", "flavour", "layers"]
    assert found["eggs"].summary == "how many eggs it takes, at least 1."
    assert [setting.default for setting in found.values()] == [MISSING, 2, "sweet", [1.0]]
    assert [setting.required for setting in found.values()] == [True, False, False, False]


@pytest.mark.parametrize(
    "cls", [*METHODS.values(), *TASKS.values(), RecurrentSettings, TrainingSettings]
)
def test_every_setting_of_a_user_is_described(cls):
    bare = [setting.name for setting in settings_of(cls).values() if not setting.summary]
    assert bare == []


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", int, 3),
        (3, int, 3),
        ("1e-3", float, 0.001),
        (2, float, 2.0),
        ("true", bool, True),
        (False, bool, False),
        ("3", str, "3"),
        ("null", str | None, None),
        (None, int | None, None),
        ("4", int | None, 4),
        ("sour", FLAVOUR, "sour"),
        ("[0.5, 1]", list[float], [0.5, 1.0]),
        ("2", int | list[int], 2),
        ([2, 5], int | list[int], [2, 5]),
    ],
)
def test_values_are_read_as_their_type(value, kind, expected):
    found = convert(value, kind, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("abc", int, "x is 'abc'; it must be a whole number"),
        ("1.5", int, "x is '1.5'; it must be a whole number"),
        (2.0, int, "x is 2.0; it must be a whole number"),
        (True, int, "x is true; it must be a whole number"),
        (True, float, "x is true; it must be a number"),
        (float("nan"), float, "x is nan; it must be a number"),
        (1, bool, "x is 1; it must be true or false"),
        (3, str, "x is 3; it must be text"),
        (None, str, "x is null; it must be text"),
        ("", float | None, "x is ''; it must be a number or null"),
        ("salty", FLAVOUR, "x is 'salty'; it must be one of sweet, sour"),
        ("a", list[float], "x is 'a'; it must be a list of numbers"),
        ([1, "b"], int | list[int], "x is [1, b]; it must be a whole number or a list of whole "
         "numbers"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(value, kind, message):
    with pytest.raises(SettingError) as caught:
        convert(value, kind, "x")
    assert str(caught.value) == message


def test_building_reads_text():
    assert build(Cake, {"name": "torte", "eggs": "6"}, "cake") == Cake("torte", 6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "cake: name is missing: what it is called"),
        ({"name": "a", "egs": 1}, "cake: unknown setting 'egs'; did you mean 'eggs'?"),
        (
            {"name": "a", "sugar": 1},
            "cake: unknown setting 'sugar'; known are name, eggs, flavour, layers",
        ),
        ({"name": "a", "eggs": "x"}, "cake: eggs is 'x'; it must be a whole number"),
        ({"name": "a", "eggs": 0}, "cake: eggs is 0; it must be at least 1"),
    ],
)
def test_building_names_what_is_wrong(values, message):
    with pytest.raises(SettingError) as caught:
        build(Cake, values, "cake")
    assert str(caught.value) == message


def test_building_inherited_settings():
    method = build(ScheduledSampling, {"schedule": "linear", "k": "0.9"}, "method")
    assert method == ScheduledSampling(schedule="linear", k=0.9)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("schedule_sampling", "scheduled_sampling"),
        ("scheduled-sampling", "scheduled_sampling"),
        ("ss", "scheduled_sampling"),
        ("DSS", "differentiable_scheduled_sampling"),
        ("MLE", "mle"),
    ],
)
def test_the_nearest_method_is_named(name, nearest):
    assert did_you_mean(name, METHODS) == f"; did you mean {nearest!r}?"


def test_the_nearest_flag_is_named():
    flags = ["--model.cell", "--training.updates", "--data"]
    assert did_you_mean("--updates", flags) == "; did you mean '--training.updates'?"
    assert did_you_mean("--dat", flags) == "; did you mean '--data'?"
    assert did_you_mean("--model.sell", flags) == "; did you mean '--model.cell'?"
    assert did_you_mean("training.data", ["data"]) == "; did you mean 'data'?"
    assert did_you_mean("seed", ["task.seed", "seeds"]) == "; did you mean 'seeds'?"
    assert did_you_mean("--zzz", flags, "see help") == "; see help"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1, "1"), ((1, None), "[1, null]"), ("a", "a")],
)
def test_values_are_spelt_as_in_yaml(value, text):
    assert spelt(value) == text


def test_types_in_words():
    assert words(int | None) == "a whole number or null"
    assert words(FLAVOUR | None) == "one of sweet, sour or null"


def test_values_of_an_instance():
    assert values_of(Cake("a"))["eggs"] == 2
    assert values_of(object()) == {}


def test_what_can_be_called_is_named_without_its_address():
    def baked(cake):
        return cake

    class Oven:
        def __call__(self, cake):
            return cake

    plain = values_of(Cake("a", flavour=baked))["flavour"]
    assert plain == f"<function {baked.__qualname__}>"
    assert " at 0x" not in values_of(Cake("a", flavour=partial(baked, cake=1)))["flavour"]
    assert values_of(Cake("a", flavour=Oven()))["flavour"].endswith("Oven object>")
    assert values_of(Cake("a", flavour=PythonCost(baked))) == {
        "name": "a", "eggs": 2, "flavour": "PythonCost('baked', on='tokens')", "layers": [1.0],
    }  # fmt: skip
