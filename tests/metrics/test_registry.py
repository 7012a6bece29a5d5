"""Metrics by name: their settings, users' own, and what is said where there is none."""

import dataclasses
import json
import sys

import pytest

from freerun.data import MissingExtraError
from freerun.metrics import METRICS, Metric, bleu, find_metric, find_metrics, metric
from freerun.settings import SettingError, to_dict
from freerun.tasks import Pairs, Translation
from tests.helpers import raises

SOURCE = """\
from freerun.metrics import metric

def shouted(outputs, references, *, least: int = 1):
    return sum(output.isupper() and len(output) >= least for output in outputs) / len(outputs)

@metric(form="tokens", greater_is_better=False)
def length_error(outputs, references):
    pairs = zip(outputs, references, strict=True)
    return sum(abs(len(output) - len(reference)) for output, reference in pairs) / len(outputs)

def half(outputs):
    return 0.5

def nothing(outputs, references):
    pass

number = 3
"""


@pytest.fixture
def rows(tmp_path):
    """A file of rows."""
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"{i}\t{i}\n" for i in range(20)))
    return str(path)


@pytest.fixture
def own(here):
    """A file of one's own metrics in the current folder."""
    (here / "own.py").write_text(SOURCE)
    return "own.py"


def test_a_name_is_enough():
    assert find_metric("chrf") is not None
    assert list(find_metrics(["chrf", "exact_match"])) == ["chrf", "exact_match"]


def test_settings_follow_a_colon():
    assert find_metric("repetition:n=2")([[1, 1, 1, 1, 1]]) == pytest.approx(3 / 4)
    assert find_metric("bleu:lowercase=true")(["A B C D"], ["a b c d"]) == pytest.approx(100)
    assert bleu(["A B C D"], ["a b c d"]) < 1


def test_signatures_tell_the_settings():
    found = find_metric("bleu:lowercase=true,tokenize=none").get_signature(["a b c d"])
    assert "|case:lc|eff:no|tok:none|" in found
    found = bleu.get_signature(["It has four words", "a"])
    assert found.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|")
    assert "|eff:yes|tok:13a|" in bleu.get_signature(["only three words"])
    assert "|tok:zh|" in bleu.get_signature(["你好，世界"])
    assert find_metric("exact_match").get_signature(["a"]) is None
    found = find_metric("mauve:model=some/model,states=last").get_signature(["a"])
    assert found.startswith("MAUVE|features:some/model, last state|mauve-text:")


def test_of_two_with_one_name_the_last_holds():
    found = find_metrics(["exact_match", "bleu", "bleu:tokenize=none"])
    assert list(found) == ["exact_match", "bleu"]
    assert found["bleu"].settings == {"tokenize": "none"}


@pytest.mark.parametrize(
    ("headline", "extra", "names"),
    [
        (None, ("bleu:tokenize=char", "bleu"), "'bleu:tokenize=char' and 'bleu'"),
        ("wer:normalizer=plain", ("wer",), "'wer:normalizer=plain' and 'wer'"),
        (bleu, ("chrf", "bleu:tokenize=char"), "'bleu' and 'bleu:tokenize=char'"),
    ],
)
def test_two_metrics_with_one_name_are_refused(rows, headline, extra, names):
    task = Pairs(data=rows, headline=headline, extra_metrics=extra)
    name = "wer" if "wer" in names else "bleu"
    with raises(SettingError, f"metrics {names} are both reported as {name}; set only one of them"):
        task.get_metrics()


def test_a_metric_of_the_task_may_have_other_settings(rows):
    extra = ("chrf", "chrf", "exact_match", "character_error")
    found = Pairs(data=rows, extra_metrics=extra).get_metrics()
    assert [*found] == ["exact_match", "character_error", "chrf"]
    found = Translation("pairs.tsv", extra_metrics=("bleu:tokenize=char",)).get_metrics()
    assert [*found] == ["bleu", "chrf", "exact_match"]
    assert found["bleu"].settings == {"tokenize": "char"}


def test_a_function_of_ones_own_is_a_metric_of_texts(own):
    found = find_metric(f"{own}:shouted")
    assert (found.name, found.form, found.greater_is_better) == ("shouted", "text", True)
    assert found(["AB", "a", "C"], ["", "", ""]) == 2 / 3
    assert find_metric(f"{own}:shouted:least=2")(["AB", "a", "C"], ["", "", ""]) == 1 / 3


def test_functions_and_metrics_themselves_are_given_in_python(rows):
    def halves(outputs, references):
        return 0.5

    @metric(greater_is_better=False)
    def thirds(outputs, references):
        return 1 / 3

    task = Pairs(data=rows, extra_metrics=(halves, thirds), headline=halves, dev_size=1)
    assert [*task.get_metrics()] == ["halves", "exact_match", "character_error", "thirds"]
    json.dumps(to_dict(task))  # a record has their names
    with raises(SettingError, "metric 'len': it is not a function of outputs and references"):
        find_metric(len)


def test_a_decorated_function_says_what_it_is(own):
    found = find_metric(f"{own}:length_error")
    assert (found.form, found.greater_is_better) == ("tokens", False)
    assert found([[1, 2], [3]], [[1], [3]]) == 1 / 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blue", "unknown metric 'blue'; did you mean 'bleu'?"),
        ("bleu:tok=zh",
         "metric 'bleu:tok=zh': unknown setting 'tok'; known are lowercase, tokenize"),
        ("bleu:lowercase=3", "metric 'bleu:lowercase=3': lowercase is '3'; it must be true or "
         "false"),
        ("bleu:tokenize", "'bleu:tokenize': 'tokenize' has no value; write it as in "
         "'bleu:tokenize=zh'"),
        ("mauve", "metric 'mauve': model is missing; write it as in mauve:model=…"),
        ("own.py:number", "metric 'own.py:number': it is not a function of outputs and references"),
        ("own.py:half",
         "metric 'own.py:half': its arguments must be outputs and references, and settings by "
         "name"),
        ("own.py:gone", "metric 'own.py:gone': there is no gone in own.py; check its spelling"),
    ],
)  # fmt: skip
def test_what_is_no_metric_is_refused(own, spec, message):
    with raises(SettingError, message):
        find_metric(spec)


def test_a_name_that_is_taken_is_refused(own):
    with pytest.raises(ValueError, match="there is a metric bleu already"):

        @metric()
        def bleu(outputs, references):
            """Not the one that is meant."""


def test_a_file_may_be_imported_as_a_module_too(own, monkeypatch):
    monkeypatch.syspath_prepend(".")
    by_module = find_metric("own:length_error")
    assert find_metric(f"{own}:length_error").name == by_module.name


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtraError) as caught:
        find_metrics(["exact_match", "bleu"])
    install = "pip install 'freerun[translation]'"
    message = f"the metric bleu needs sacrebleu, which is missing: {install}"
    assert str(caught.value) == message


def test_every_metric_says_what_it_is():
    for name, found in METRICS.items():
        assert isinstance(found, Metric)
        assert found.name == name
        assert found.summary.endswith(".")
        assert "\n" not in found.summary


@pytest.mark.parametrize(
    ("value", "found"), [(float("nan"), "nan"), (float("inf"), "inf"), ("0.5", "a str")]
)
def test_a_metric_is_a_finite_number(value, found):
    given = dataclasses.replace(METRICS["exact_match"], function=lambda *arguments: value)
    with pytest.raises(SettingError, match=f"returned {found}; it must return a finite number$"):
        given(["a"], ["a"])


def test_a_function_that_returns_no_number_is_named(own):
    message = "^metric 'nothing' returned a NoneType; it must return a finite number$"
    with pytest.raises(SettingError, match=message):
        find_metric(f"{own}:nothing")(["a"], ["a"])
