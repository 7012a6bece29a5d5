"""Settings of dataclasses: what is read of text, what is refused and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from freerun.costs import PythonCost
from freerun.methods import METHODS, ScheduledSampling
from freerun.models.settings import RecurrentSettings
from freerun.settings import (
    MISSING,
    SETTING_NAME,
    SettingError,
    build,
    convert,
    describe_type,
    did_you_mean,
    format_value,
    list_settings,
    to_dict,
)
from freerun.tasks import TASKS
from freerun.training import TrainingSettings
from tests.helpers import raises

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
    found = list_settings(Cake)
    assert [setting.name for setting in found.values()] == ["name", "eggs", "flavour", "layers"]
    assert found["eggs"].summary == "how many eggs it takes, at least 1."
    assert [setting.default for setting in found.values()] == [MISSING, 2, "sweet", [1.0]]
    assert [setting.is_required for setting in found.values()] == [True, False, False, False]


@pytest.mark.parametrize(
    "cls", [*METHODS.values(), *TASKS.values(), RecurrentSettings, TrainingSettings]
)
def test_every_setting_of_a_user_is_described(cls):
    bare = [setting.name for setting in list_settings(cls).values() if not setting.summary]
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
        ("[2, 5]", tuple[int, ...], (2, 5)),
        ("3", int | str, 3),
        ("a: b", int | str, "a: b"),
        ("1e3", float, 1000.0),
        ("010", int, 10),
        ("1_000", int, 1000),
        ("no", bool | str, "no"),
        ("1:30", int | str, "1:30"),
        ("2001-05-01", int | str, "2001-05-01"),
        ("'3'", int | str, "'3'"),
        ("2 # rows", int, 2),
        ("runs/a", Path, Path("runs/a")),
        ("2", Literal[1, 2], 2),
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
        (3.5, int, "x is 3.5; it must be a whole number"),
        ("1e3", int, "x is '1e3'; it must be a whole number"),
        ("nan", float, "x is 'nan'; it must be a number"),
        ("[1", int, "x is '[1'; it must be a whole number"),
        ("true", int, "x is 'true'; it must be a whole number"),
        (True, int, "x is true; it must be a whole number"),
        (True, float, "x is true; it must be a number"),
        (float("nan"), float, "x is nan; it must be a finite number"),
        ("inf", float, "x is 'inf'; it must be a number"),
        (float("inf"), float, "x is inf; it must be a finite number"),
        ("1e999", float, "x is '1e999'; it must be a finite number"),
        (10**400, float, f"x is 1{59 * '0'}; it must be a finite number"),
        (2**32, int, "x is 4294967296; it must be a whole number below 2^32"),
        ("7" * 4400, int, f"x is '{59 * '7'}; it must be a whole number"),
        ("\u0661\u0662", int, "x is '\u0661\u0662'; it must be a whole number"),
        ("0x10", int, "x is '0x10'; it must be a whole number"),
        ("yes", bool, "x is 'yes'; it must be true or false"),
        ("#", int | None, "x is '#'; it must be a whole number or null"),
        ("&a [*a]", list[int], "x is '&a [*a]'; it must be a list of whole numbers, such as "
         "[1,2]"),
        ("[" * 10_000, list[int], f"x is '{59 * '['}; it must be a list of whole numbers, "
         "such as [1,2]"),
        ("a\0b", Path, r"x is 'a\x00b'; it must be text in UTF-8"),
        ("\udcff", str, r"x is '\udcff'; it must be text in UTF-8"),
        (1, bool, "x is 1; it must be true or false"),
        (3, str, "x is 3; it must be text"),
        (None, str, "x is null; it must be text"),
        ("", float | None, "x is ''; it must be a number or null"),
        ("salty", FLAVOUR, "x is 'salty'; it must be one of sweet, sour"),
        ("a", list[float], "x is 'a'; it must be a list of numbers, such as [0.5,2]"),
        ([1, "b"], int | list[int], "x is [1, b]; it must be a whole number or a list of whole "
         "numbers, such as [1,2]"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(value, kind, message):
    with raises(SettingError, message):
        convert(value, kind, "x")


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
    with raises(SettingError, message):
        build(Cake, values, "cake")


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
    assert format_value(value) == text


def test_types_in_words():
    assert describe_type(int | None) == "a whole number or null"
    assert describe_type(FLAVOUR | None) == "one of sweet, sour or null"


def test_values_of_an_instance():
    assert to_dict(Cake("a"))["eggs"] == 2
    assert to_dict(object()) == {}


# Groups and choices


@dataclass(frozen=True)
class Whole:
    """All of it."""

    name: ClassVar[str] = "whole"


@dataclass(frozen=True)
class Slices:
    """Some of it.

    Args:
        count: how many slices.
        size: how large each is.
    """

    name: ClassVar[str] = "slices"
    count: int
    size: float = field(default=1.5, metadata={SETTING_NAME: "slice_size"})


@dataclass(frozen=True)
class Crumbs:
    """What is left of it.

    Args:
        size: how large each is.
    """

    name: ClassVar[str] = "crumbs"
    size: float = field(default=1.5, metadata={SETTING_NAME: "slice_size"})


@dataclass(frozen=True)
class Plate:
    """A plate.

    Args:
        portion: how the cake is cut.
        gold: whether the rim is of gold.
    """

    portion: Whole | Slices | Crumbs = field(default_factory=Whole)
    gold: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        guests: how many guests.
        plate: the plate of each.
    """

    guests: int
    plate: Plate = field(default_factory=Plate)


def test_settings_of_groups_and_options_have_flat_names():
    found = list_settings(Table)
    assert list(found) == ["guests", "portion", "count", "slice_size", "gold"]
    assert found["portion"].kind == Literal["whole", "slices", "crumbs"]
    assert [setting.default for setting in found.values()] == [
        MISSING,
        "whole",
        MISSING,
        1.5,
        False,
    ]
    assert [setting.is_required for setting in found.values()] == [True, False, False, False, False]
    assert found["slice_size"].condition == "portion=slices or crumbs"
    assert found["slice_size"].summary == "how large each is."
    assert found["gold"].condition == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"guests": 1}, Table(1)),
        ({"guests": "1", "gold": "true"}, Table(1, Plate(gold=True))),
        ({"guests": 1, "portion": "whole"}, Table(1)),
        ({"guests": 1, "portion": "slices", "count": "3"}, Table(1, Plate(Slices(3)))),
        (
            {"guests": 2, "portion": "slices", "count": 3, "slice_size": "2"},
            Table(2, Plate(Slices(3, 2.0))),
        ),
        ({"guests": 1, "portion": "crumbs", "gold": True}, Table(1, Plate(Crumbs(), gold=True))),
    ],
)
def test_groups_and_options_are_built_from_flat_names(values, expected):
    found = build(Table, values, "table")
    assert found == expected
    assert build(Table, to_dict(found), "table") == found


def test_settings_of_other_options_are_not_among_the_values():
    assert to_dict(Table(1)) == {"guests": 1, "portion": "whole", "gold": False}
    assert to_dict(Table(1, Plate(Crumbs(2.0)))) == {
        "guests": 1, "portion": "crumbs", "slice_size": 2.0, "gold": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "table: guests is missing: how many guests"),
        ({"portion": "halves"}, "table: portion is 'halves'; it must be one of whole, slices, "
         "crumbs"),
        ({"guests": 1, "count": 2}, "table: count has no effect on portion=whole; it needs "
         "portion=slices"),
        ({"guests": 1, "slice_size": 2}, "table: slice_size has no effect on portion=whole; it "
         "needs portion=slices or crumbs"),
        ({"guests": 1, "portion": "slices"}, "table: portion=slices needs count: how many slices"),
        ({"guests": 1, "potion": "whole"}, "table: unknown setting 'potion'; did you mean "
         "'portion'?"),
    ],
)  # fmt: skip
def test_wrong_settings_of_options_are_refused(values, message):
    with raises(SettingError, message):
        build(Table, values, "table")


def test_two_settings_of_one_name_are_an_error():
    @dataclass
    class Clash:
        count: int
        portion: Whole | Slices = Whole()

    with pytest.raises(TypeError, match=r"^Clash has two settings called 'count'$"):
        list_settings(Clash)


def test_what_can_be_called_is_named_without_its_address():
    def baked(cake):
        return cake

    class Oven:
        def __call__(self, cake):
            return cake

    plain = to_dict(Cake("a", flavour=baked))["flavour"]
    assert plain == f"<function {baked.__qualname__}>"
    assert " at 0x" not in to_dict(Cake("a", flavour=partial(baked, cake=1)))["flavour"]
    assert to_dict(Cake("a", flavour=Oven()))["flavour"].endswith("Oven object>")
    assert to_dict(Cake("a", flavour=PythonCost(baked))) == {
        "name": "a", "eggs": 2, "flavour": "PythonCost('baked', on='tokens')", "layers": [1.0],
    }  # fmt: skip


@pytest.mark.parametrize("text", ["&a", "# x", "!!int"])
def test_text_without_a_value_is_not_null(text):
    with pytest.raises(SettingError):
        convert(text, int | None, "size")
