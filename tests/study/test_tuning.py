"""Tuning: equally many trials for all, the best of them, and the same again when resumed."""

import json
import shutil
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest

from freerun.data import MissingExtraError
from freerun.errors import CheckpointError
from freerun.methods import METHODS, MLE, ScheduledSampling, find_method
from freerun.methods.tuning import Choice, pick_default_settings, replace_settings
from freerun.report import legend
from freerun.settings import SettingError
from freerun.study import compare, parse_method
from freerun.study.tuning import TUNING_SEED, Trial, _search
from freerun.training import load_policy
from freerun.training.record import Record
from tests.helpers import raises
from tests.pages import ROOT, tables
from tests.study.test_compare import MODEL, TASK, TRAINING

pytest.importorskip("optuna")
VARIANTS = {"mle": MLE(), "sampled": ScheduledSampling(feedback="sample")}
SETTINGS = {"model": MODEL, "training": TRAINING, "seeds": 1, "quiet": True, "tune": 3}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("tuned") / "out"
    return compare(TASK, VARIANTS, output=output, **SETTINGS).results, output


def without_times(value):
    if isinstance(value, dict):
        times = ("seconds", "seconds_per_update", "time_relative_to_mle", "date")
        return {k: without_times(v) for k, v in value.items() if k not in times}
    return [without_times(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", METHODS)
def test_all_of_a_space_is_allowed(name):
    method = find_method(name)()
    assert pick_default_settings(method, method.tuning) == method.tuning != {}
    for path, space in method.tuning.items():
        ends = space.values if isinstance(space, Choice) else (space.low, space.high)
        for value in ends:
            assert replace_settings(method, {path: value}) is not None


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ("mle:label_smoothing=0.1", []),
        ("scheduled_sampling:schedule=linear", ["floor", "feedback"]),
        ("scheduled_sampling:schedule=linear,k=0.5", ["feedback"]),
        ("scheduled_sampling:schedule=constant,k=0.5", ["feedback"]),
        (
            "sequence_match:backspace=false,alpha=0.1",
            ["gamma", "warm_up", "floor", "period", "samplings"],
        ),
        ("searnn:roll_out=learned,cell_loss=ll", ["warm_up"]),
        ("searnn:cell_loss=kl,alpha=10", ["warm_up", "roll_out.share"]),
    ],
)
def test_settings_chosen_by_hand_are_left_alone(spec, paths):
    method = parse_method(spec)
    assert list(pick_default_settings(method, method.tuning)) == paths


def test_inner_settings_are_replaced():
    found = replace_settings(find_method("searnn")(), {"cell_loss.alpha": 7.0, "warm_up": 0.2})
    assert (found.cell_loss.alpha, found.warm_up) == (7.0, 0.2)


def test_every_method_has_as_many_trials_and_the_best_is_used(finished):
    results, output = finished
    for name, method in VARIANTS.items():
        entry = results["methods"][name]
        trials, best = entry["tuning"]["trials"], entry["tuning"]["best"]
        assert len(trials) == 3
        first = dict(trials[0]["settings"])
        assert first.pop("training.learning_rate") == 1e-3  # the default of a new model
        assert first == {path: getattr(method, path) for path in first}
        assert trials[best]["dev"] == min(trial["dev"] for trial in trials)
        for number, trial in enumerate(trials):
            record = Record.read(output / "tuning" / name / f"trial-{number}" / "freerun.json")
            assert record.seeds == [TUNING_SEED]
            assert record.results.dev["character_error"] == trial["dev"]
            assert 1e-4 <= record.training["learning_rate"] <= 1e-2
        chosen = Record.read(output / name / "seed-0" / "freerun.json")
        settings = trials[best]["settings"]
        if best:
            assert chosen.training["learning_rate"] == settings["training.learning_rate"]
        own = {path: value for path, value in settings.items() if "learning_rate" not in path}
        assert own.items() <= entry["settings"].items()
    assert "feedback" not in results["methods"]["sampled"]["tuning"]["trials"][1]["settings"]
    assert results["methods"]["sampled"]["settings"]["feedback"] == "sample"
    assert results["training"]["learning_rate"] == TRAINING.learning_rate
    assert load_policy(output / "tuning" / "mle" / "trial-1")


def test_both_have_the_same_learning_rate_in_the_first_trials(finished):
    rates = [
        [trial["settings"]["training.learning_rate"] for trial in entry["tuning"]["trials"]]
        for entry in finished[0]["methods"].values()
    ]
    assert rates[0][:2] == rates[1][:2]
    assert len(set(rates[0])) == 3


def test_an_interrupted_tuning_ends_as_if_it_had_not_been(finished, tmp_path):
    results, output = finished
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    shutil.rmtree(copy / "sampled")
    shutil.rmtree(copy / "tuning" / "sampled" / "trial-2")
    (copy / "results.json").unlink()
    kept = copy / "tuning" / "sampled" / "trial-1" / "model.safetensors"
    time = kept.stat().st_mtime_ns
    again = compare(TASK, VARIANTS, output=copy, **SETTINGS).results
    assert without_times(again) == without_times(results)
    assert kept.stat().st_mtime_ns == time


@pytest.mark.parametrize(("tune", "shown"), [(None, "null"), (4, "4")])
def test_another_number_of_trials_is_another_comparison(finished, tune, shown):
    output = finished[1]
    message = (
        f"{output}: it holds another comparison: tune is 3 there, and {shown} here; choose another "
        "output directory"
    )
    with raises(CheckpointError, message):
        compare(TASK, VARIANTS, output=output, **{**SETTINGS, "tune": tune})


def test_it_is_told_below_the_table(finished):
    results = finished[0]
    lines = legend(results).splitlines()
    place = lines.index("Tuned on dev with 3 trials each:")
    assert lines[place + 1].startswith("  mle: training.learning_rate=0.")
    assert lines[place + 2].startswith("  sampled: training.learning_rate=0.")
    assert json.loads((finished[1] / "tuning" / "tuning.json").read_text()) == {"trials": 3}


def test_what_is_missing_or_wrong_is_found_before_training(tmp_path, monkeypatch):
    with raises(SettingError, "tune is 0; it must be at least 1"):
        compare(TASK, VARIANTS, output=tmp_path / "out", **{**SETTINGS, "tune": 0})
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = "tuning needs optuna, which is missing: pip install 'freerun[tune]'"
    with raises(MissingExtraError, message):
        compare(TASK, VARIANTS, output=tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True, kw_only=True)
class Plain(MLE):
    """A method with nothing to tune but the learning rate."""

    name: ClassVar[str] = "plain"
    tuning: ClassVar = {}


def search(run, count=12, greater=False, method=None):
    return _search("x", method or Plain(), 1e-3, count, run, greater)


def distance(number, method, rate):
    return abs(rate - 4e-3)


def test_the_best_learning_rate_is_found_and_the_same_again():
    found = search(distance)
    assert found.trials[0] == Trial({"training.learning_rate": 1e-3}, abs(1e-3 - 4e-3))
    assert found.learning_rate == pytest.approx(4e-3, rel=0.3)
    assert found == search(distance)
    other = search(lambda *trial: -distance(*trial), greater=True)
    assert (other.best, other.learning_rate) == (found.best, found.learning_rate)


def test_trials_that_diverge_are_left_out():
    def run(number, method, rate):
        if rate > 2e-3 or number == 0:
            raise FloatingPointError
        return distance(number, method, rate)

    found = search(run)
    assert found.trials[0].value is None
    assert found.learning_rate <= 2e-3

    def never(number, method, rate):
        raise FloatingPointError

    with raises(SettingError, "method 'x': training diverged in all 2 trials"):
        search(never, count=2)


def test_of_equally_good_trials_the_first_is_used():
    assert search(lambda *trial: 1.0).best == 0


def test_the_page_has_all_spaces():
    ((_, rows),) = tables(ROOT / "docs" / "tuning.md", "spaces")
    there, name = {}, ""
    for method, path, values in rows:
        name = method.strip("`") or name
        there.setdefault(name, {})[path.strip("`")] = values
    expected = {
        name: {path: describe(space) for path, space in find_method(name)().tuning.items()}
        for name in METHODS
    }
    assert there == expected


def describe(space):
    if isinstance(space, Choice):
        return ", ".join(f"`{value}`" for value in space.values)
    return f"{space.low:g} … {space.high:g}{', logarithmic' if space.log else ''}"
