"""Methods by name, from text and from YAML."""

import pytest

from freerun.methods import METHODS, MLE, DifferentiableScheduledSampling, ScheduledSampling
from freerun.settings import SettingError
from freerun.study import parse_method, parse_methods
from freerun.study.specs import make_folder_name
from tests.helpers import raises

KNOWN = ", ".join(METHODS)
LINEAR = ScheduledSampling(schedule="linear", k=0.9)


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        ("mle", MLE()),
        ("mle:", MLE()),
        ("scheduled_sampling:schedule=linear,k=0.9", LINEAR),
        (" scheduled_sampling : schedule = linear , k = 0.9 ", LINEAR),
        ("differentiable_scheduled_sampling:top_k=3,straight_through=true,alpha_end=null",
         DifferentiableScheduledSampling(top_k=3, straight_through=True)),
    ],
)  # fmt: skip
def test_text_names_a_method_and_its_settings(spec, method):
    assert parse_method(spec) == method


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scheduled_samplin", "unknown method 'scheduled_samplin'; did you mean "
         "'scheduled_sampling'?"),
        ("xyz", f"unknown method 'xyz'; known are {KNOWN}"),
        ("", f"unknown method ''; known are {KNOWN}"),
        ("mle:smoothing=1", "method 'mle:smoothing=1': unknown setting 'smoothing'; did you mean "
         "'label_smoothing'?"),
        ("scheduled_sampling:k", "'scheduled_sampling:k': 'k' has no value; write it as in "
         "'scheduled_sampling:schedule=linear,k=0.9'"),
        ("scheduled_sampling:k=1,k=2", "'scheduled_sampling:k=1,k=2': k is set twice"),
        ("scheduled_sampling:k=x", "method 'scheduled_sampling:k=x': k is 'x'; it must be a number "
         "or null"),
        ("scheduled_sampling:floor=2", "method 'scheduled_sampling:floor=2': floor is 2.0; it must "
         "lie in [0, 1]"),
        ("scheduled_sampling:schedule=liner", "method 'scheduled_sampling:schedule=liner': "
         "schedule is 'liner'; it must be one of linear, exponential, inverse_sigmoid, constant"),
    ],
)  # fmt: skip
def test_wrong_text_is_refused(spec, message):
    with raises(SettingError, message):
        parse_method(spec)


def test_texts_are_the_names_of_their_variants():
    linear = "scheduled_sampling:schedule=linear,k=0.9"
    assert parse_methods(["mle", linear]) == {"mle": MLE(), linear: LINEAR}
    assert parse_methods("mle") == {"mle": MLE()}


def test_mappings_name_variants():
    assert parse_methods(
        {
            "mle": None,
            "scheduled_sampling": {"schedule": "linear", "k": 0.9},
            "steep": {"scheduled_sampling": {"schedule": "exponential", "k": 0.5}},
            "plain": {"scheduled_sampling": None},
            "sharp": "differentiable_scheduled_sampling:alpha=10",
            "own": LINEAR,
        }
    ) == {
        "mle": MLE(),
        "scheduled_sampling": LINEAR,
        "steep": ScheduledSampling(schedule="exponential", k=0.5),
        "plain": ScheduledSampling(),
        "sharp": DifferentiableScheduledSampling(alpha=10.0),
        "own": LINEAR,
    }


def test_a_list_may_mix_texts_and_mappings():
    given = ["mle", {"linear": {"scheduled_sampling": {"schedule": "linear", "k": 0.9}}}]
    assert parse_methods(given) == {"mle": MLE(), "linear": LINEAR}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], f"no method is named; known are {KNOWN}"),
        (["mle", "mle"], "'mle' is named twice; each variant needs its own name"),
        ({"foo": {}}, f"unknown method 'foo'; known are {KNOWN}"),
        ({"foo": {"schduled_sampling": {}}}, "foo: unknown method 'schduled_sampling'; did you "
         "mean 'scheduled_sampling'?"),
        ({"foo": {"mle": 3}}, "foo: mle is 3; it must be a mapping of settings"),
        ({"foo": {"mle": {"smoothing": 3}}}, "method 'foo': unknown setting 'smoothing'; did you "
         "mean 'label_smoothing'?"),
        ({"mle": 3}, "mle is 3; it must be a mapping of settings"),
        ({"": "mle"}, "'' is not a valid name; it must have 1 to 200 printable characters"),
        ({"a\0": "mle"},
         "'a\\x00' is not a valid name; it must have 1 to 200 printable characters"),
        (["mle,scheduled_sampling"], "'mle,scheduled_sampling' names several methods; each must be "
         "an argument or an item of a list of its own, such as mle scheduled_sampling without "
         "quotes and commas"),
        ("mle  ocd:floor=1", "'mle  ocd:floor=1' names several methods; each must be an argument "
         "or an item of a list of its own, such as mle ocd without quotes and commas"),
        ([3], "3 is not a method; name one as in 'scheduled_sampling:schedule=linear,k=0.9'"),
        ({"a/b": "mle", "a-b": "mle"}, "'a/b' and 'a-b' would share the folder 'a-b'; choose "
         "another name"),
    ],
)  # fmt: skip
def test_wrong_variants_are_refused(given, message):
    with raises(SettingError, message):
        parse_methods(given)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mle", "mle"),
        ("scheduled_sampling:schedule=linear,k=0.9", "scheduled_sampling-schedule=linear,k=0.9"),
        ("../up", "-.-up"),
        ("..", "-."),
        ("DSS (α = 10)", "DSS--α-=-10-"),
    ],
)
def test_folders_stay_inside_the_output(name, folder):
    assert make_folder_name(name) == folder
