"""Comparisons that are really run, of models that are very small."""

import hashlib
import html
import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import freerun
from freerun.data import DataError, MissingExtraError
from freerun.errors import CheckpointError
from freerun.evaluation import (
    Decoding,
    average_by_position,
    estimate,
    estimate_difference,
    evaluate,
    find_reference_errors,
    resample,
)
from freerun.methods import MLE, BehaviorCloning, ScheduledSampling
from freerun.metrics import score_majority_guess
from freerun.models.settings import RecurrentSettings
from freerun.report import legend, summary
from freerun.report.table import title
from freerun.settings import SettingError, to_dict
from freerun.study import compare, read_results
from freerun.study.checks import list_seeds
from freerun.study.plan import check_folders
from freerun.tasks import Digits, Pairs, SpeechToText, Spelling, load_data
from freerun.training import TrainingSettings, load_policy
from freerun.training.record import Record, digest_path
from tests.full import FULL, full
from tests.helpers import raises

TASK = Digits(train_size=40, dev_size=12, test_size=14)
MODEL = RecurrentSettings(hidden_size=8, embedding_size=4)
TRAINING = TrainingSettings(updates=4, evaluate_every=2, batch_size=4)
METHODS = {"mle": MLE(), "half": ScheduledSampling(schedule="constant", k=0.5)}
SMALL = {"seeds": 1, "model": MODEL, "training": TRAINING, "quiet": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison of two methods and two seeds, and its folder."""
    output = tmp_path_factory.mktemp("comparison") / "out"
    settings = {**SMALL, "seeds": 2, "command": "freerun compare …"}
    return compare(TASK, METHODS, output=output, **settings), output


@pytest.fixture
def refuses(tmp_path):
    """A function that checks the error of a comparison, and that nothing was trained."""

    def check(kind, message, task=TASK, methods=METHODS, output=None, **settings):
        output = output or tmp_path / "out"
        with raises(kind, message):
            compare(task, methods, output=output, **{**SMALL, **settings})
        assert not list(tmp_path.glob("**/freerun.json"))

    return check


def figures(results, name, metric="character_error"):
    return results["methods"][name]["test"][metric]


def test_it_is_at_hand_in_the_package():
    assert freerun.compare is compare
    with pytest.raises(AttributeError, match="module 'freerun' has no attribute 'compete'"):
        freerun.compete  # noqa: B018


def test_results_are_those_of_the_models_that_it_leaves(finished):
    comparison, output = finished
    data = load_data(TASK)
    for name in METHODS:
        policies = [load_policy(output / name / f"seed-{seed}")[0] for seed in (0, 1)]
        runs = [evaluate(policy, TASK, data.codec, data.test) for policy in policies]
        entry = comparison.results["methods"][name]
        for metric in ("character_error", "exact_match"):
            expected = [run.metrics[metric] for run in runs]
            draws = np.stack(resample([run.statistics[metric] for run in runs]), axis=1)
            assert entry["test"][metric] == estimate(expected, draws)
        assert entry["error_by_position"]["values"] == [run.error_by_position for run in runs]
        assert entry["error_by_position"]["count"] == runs[0].count_by_position
        controls = [
            average_by_position(find_reference_errors(policy, data.test))[0] for policy in policies
        ]
        assert entry["error_after_reference"]["values"] == controls


def test_differences_are_taken_seed_by_seed(finished):
    results = finished[0].results
    for metric in ("character_error", "exact_match"):
        own, base = (figures(results, name, metric)["values"] for name in ("half", "mle"))
        expected = summary([a - b for a, b in zip(own, base, strict=True)])
        assert results["methods"]["half"]["difference_to_mle"][metric].items() >= expected.items()
        assert results["methods"]["mle"]["difference_to_mle"][metric]["values"] == [0.0, 0.0]
    for metric in ("character_error", "exact_match"):
        base = results["methods"]["mle"]["difference_to_mle"][metric]
        assert (base["low"], base["high"], base["seeds_needed"]) == (0, 0, None)
    times = [results["methods"][name]["seconds_per_update"]["values"] for name in ("half", "mle")]
    relative = results["methods"]["half"]["time_relative_to_mle"]["values"]
    assert relative == [a / b for a, b in zip(*times, strict=True)]


def test_intervals_of_differences_are_of_the_same_examples_for_all_runs(finished):
    comparison, output = finished
    data, found = load_data(TASK), {}
    for name in METHODS:
        policies = [load_policy(output / name / f"seed-{seed}")[0] for seed in (0, 1)]
        found[name] = [evaluate(policy, TASK, data.codec, data.test) for policy in policies]
    for metric in ("character_error", "exact_match"):
        own, base = (
            np.stack(resample([run.statistics[metric] for run in found[name]]), axis=1)
            for name in ("half", "mle")
        )
        values = [
            run.metrics[metric] - other.metrics[metric]
            for run, other in zip(found["half"], found["mle"], strict=True)
        ]
        expected = estimate_difference(values, own - base)
        difference = comparison.results["methods"]["half"]["difference_to_mle"][metric]
        assert difference == expected
    assert figures(comparison.results, "half")["low"] < figures(comparison.results, "half")["high"]


def test_all_that_is_needed_to_repeat_it_is_written_down(finished):
    comparison, output = finished
    results = json.loads((output / "results.json").read_text())
    assert results == comparison.results
    assert results["task"]["settings"] == {
        "metrics": [], "headline": None, "noise": 0.3,
        "train_size": 40, "dev_size": 12, "test_size": 14, "seed": 0,
    }  # fmt: skip
    assert results["examples"] == {"train": 40, "dev": 12, "test": 14}
    assert results["task"]["notes"][0] == "train: 40 dates, 1445 images"
    assert results["task"]["metric"] == "character_error"
    assert results["model"]["hidden_size"] == 8
    assert results["training"]["updates"] == 4
    assert "seed" not in results["training"]
    assert results["seeds"] == [0, 1]
    assert results["base"] == "mle"
    assert results["command"] == "freerun compare …"
    assert results["majority"] == score_majority_guess(TASK.get_metrics(), load_data(TASK))
    assert results["versions"]["python"] == sys.version.split()[0]
    entry = results["methods"]["half"]
    assert entry["method"] == "scheduled_sampling"
    assert entry["settings"] == {
        "schedule": "constant", "k": 0.5, "c": None, "floor": 0.0, "feedback": "greedy",
        "passes": None,
    }  # fmt: skip
    assert entry["updates"] == [4, 4]
    assert [point["update"] for point in entry["learning_curves"][0]] == [2, 4]
    best = entry["best_updates"][0]
    (kept,) = (point for point in entry["learning_curves"][0] if point["update"] == best)
    assert entry["dev"]["character_error"]["values"][0] == kept["character_error"]


def test_the_output_holds_results_plots_and_models(finished):
    comparison, output = finished
    assert [path.name for path in comparison.files] == [
        "results.json", "learning_curves.png", "error_by_position.png", "report.html",
    ]  # fmt: skip
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [*METHODS, "comparison.json", *(path.name for path in comparison.files)]
    )
    assert comparison.table.row_count == 3


def test_a_second_start_loads_what_is_finished_and_trains_the_rest(finished, tmp_path, capsys):
    comparison, output = finished
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    shutil.rmtree(copy / "half" / "seed-1")
    (copy / "results.json").unlink()
    times = {path: path.stat().st_mtime_ns for path in copy.glob("*/*/model.safetensors")}
    again = compare(TASK, METHODS, output=copy, **{**SMALL, "seeds": [0, 1], "quiet": False})
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name in METHODS:
        assert figures(again.results, name) == figures(comparison.results, name)
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Run")]
    assert shown == [
        "Run 1 of 4: mle, seed 0",
        "Run 2 of 4: half, seed 0",
        "Run 3 of 4: mle, seed 1",
        "Run 4 of 4: half, seed 1",
    ]


def test_beam_search_beside_greedy_decoding(finished, tmp_path):
    comparison, output = finished
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    settings = {**SMALL, "seeds": 2, "beam": 3}
    again = compare(TASK, METHODS, output=copy, **settings)
    assert (comparison.results["beam"], again.results["beam"]) == (None, 3)
    assert json.loads((copy / "results.json").read_text()) == again.results
    data, decoding = load_data(TASK), Decoding(beam=3)
    found = {}
    for name in METHODS:
        assert figures(again.results, name) == figures(comparison.results, name)
        assert list(again.results["methods"][name]["test"]) == [
            "character_error", "exact_match", "beam_character_error", "beam_exact_match",
        ]  # fmt: skip
        policies = [load_policy(copy / name / f"seed-{seed}")[0] for seed in (0, 1)]
        found[name] = [
            evaluate(policy, TASK, data.codec, data.test, decoding=decoding).metrics
            for policy in policies
        ]
        for metric in ("character_error", "exact_match"):
            expected = summary([metrics[metric] for metrics in found[name]])
            figure = figures(again.results, name, f"beam_{metric}")
            assert figure.items() >= expected.items()
            assert figure["low"] <= figure["mean"] <= figure["high"]
    difference = again.results["methods"]["half"]["difference_to_mle"]["beam_character_error"]
    assert difference["values"] == [
        own["character_error"] - base["character_error"]
        for own, base in zip(found["half"], found["mle"], strict=True)
    ]
    assert list(again.results["majority"]) == ["character_error", "exact_match"]


def test_another_decoding_trains_nothing_anew_and_is_kept(finished, tmp_path):
    comparison, output = finished
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    times = {path: path.stat().st_mtime_ns for path in copy.glob("*/*/model.safetensors")}
    decoding = Decoding(sample=True, temperature=2.0, seed=5)
    again = compare(TASK, METHODS, output=copy, **{**SMALL, "seeds": 2, "decoding": decoding})
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert comparison.results["decoding"] == to_dict(Decoding())
    assert again.results["decoding"] == to_dict(decoding)
    data = load_data(TASK)
    for name in METHODS:
        policies = [load_policy(copy / name / f"seed-{seed}")[0] for seed in (0, 1)]
        runs = [
            evaluate(policy, TASK, data.codec, data.test, decoding=decoding) for policy in policies
        ]
        expected = summary([run.metrics["character_error"] for run in runs])
        assert figures(again.results, name).items() >= expected.items()
        assert again.results["methods"][name]["dev"] == comparison.results["methods"][name]["dev"]
    assert legend(again.results).startswith(
        "Test set, free-running, sampling (temperature 2, seed 5); mean"
    )
    assert legend(comparison.results).startswith("Test set, free-running, greedy decoding; mean")


def test_methods_with_a_backspace_have_figures_that_mle_has_not(tmp_path):
    methods = {"mle": MLE(), "cloning": BehaviorCloning(noise=0.3)}
    training = replace(TRAINING, updates=30, evaluate_every=30, learning_rate=0.02)
    settings = {**SMALL, "seeds": 2, "training": training, "decoding": Decoding(sample=True)}
    results = compare(TASK, methods, output=tmp_path / "out", **settings).results
    mle, cloning = results["methods"]["mle"], results["methods"]["cloning"]
    assert list(mle["test"]) == ["character_error", "exact_match"]
    assert list(cloning["test"])[:3] == ["character_error", "exact_match", "backspace_rate"]
    assert all(rate > 0 for rate in cloning["test"]["backspace_rate"]["values"])
    assert list(cloning["difference_to_mle"]) == ["character_error", "exact_match"]
    assert "backspace_rate" in cloning["learning_curves"][0][-1]


def test_a_decoding_that_a_method_cannot_have_is_found_before_training(refuses):
    methods = {"mle": MLE(), "cloning": BehaviorCloning()}
    message = (
        "beam search cannot withdraw tokens, and this vocabulary has a backspace: decode greedily "
        "or sample"
    )
    refuses(SettingError, message, methods=methods, beam=3)


def test_a_beam_of_one_is_refused(refuses):
    message = "beam is 1; it must be at least 2, as greedy is always reported"
    refuses(SettingError, message, beam=1)


def test_a_budget_of_seconds_stops_training(tmp_path):
    training = replace(TRAINING, updates=10**6, budget=0.3, evaluate_every=10**6)
    settings = {**SMALL, "training": training}
    comparison = compare(TASK, ["mle"], output=tmp_path / "out", **settings)
    entry = comparison.results["methods"]["mle"]
    assert entry["updates"][0] < 10**6
    assert 0.3 <= entry["seconds"][0] < 3


def test_without_mle_there_is_nothing_to_compare_to(tmp_path):
    half = {"half": METHODS["half"]}
    results = compare(TASK, half, output=tmp_path / "out", **SMALL).results
    assert results["base"] is None
    assert results["methods"]["half"]["difference_to_mle"] is None
    assert results["methods"]["half"]["time_relative_to_mle"] is None


def test_the_base_is_mle_however_it_is_called(tmp_path):
    methods = {"half": METHODS["half"], "smooth": MLE(label_smoothing=0.1)}
    results = compare(TASK, methods, output=tmp_path / "out", **SMALL).results
    assert results["base"] == "smooth"


def test_data_files_are_told_by_their_digest_path(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog " * 20)
    task = Spelling(data=str(text), length=5, dev_size=4, test_size=4)
    results = compare(task, ["mle"], output=tmp_path / "out", **SMALL).results
    expected = hashlib.sha256(text.read_bytes()).hexdigest()
    assert results["task"]["files"] == {str(text): expected}
    text.write_text(text.read_text() + "!")
    with pytest.raises(CheckpointError, match=r"it holds another comparison: task.files.*is"):
        compare(task, ["mle"], output=tmp_path / "out", **SMALL)


def test_other_settings_are_no_files_even_if_there_are_some_of_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    rows = write_rows(tmp_path / "rows.tsv")
    task = Pairs(rows, column_separator=".")
    build = partial(Record.build, methods={}, model=MODEL, training=TRAINING, seeds=[0])
    assert list(build(task).task["files"]) == [rows]
    assert build(SpeechToText(rows)).task["files"].keys() == {rows}


def test_the_number_of_updates_may_be_left_to_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("freerun.training.settings.MOST_UPDATES", 3)
    task = Pairs(write_rows(tmp_path / "rows.tsv"), target_tokens="characters")
    settings = {**SMALL, "training": TrainingSettings(batch_size=4)}
    found = compare(task, ["mle"], output=tmp_path / "out", **settings)
    assert found.results["training"]["updates"] == 3
    assert found.results["methods"]["mle"]["updates"] == [3]
    assert "pairs, 3 updates each" in title(read_results(tmp_path / "out"))


def write_rows(path):
    path.write_text("".join(f"{i} + 1\t{i + 1}\n" for i in range(20)))
    return str(path)


def test_the_digest_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    before = digest_path(tmp_path)
    (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "b")
    assert digest_path(tmp_path) != before
    (tmp_path / "sub" / "b").rename(tmp_path / "sub" / "a")
    assert digest_path(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": replace(TRAINING, updates=5, learning_rate=0.1)},
         "training.updates is 4 there, and 5 here; "
         "training.learning_rate is null there, and 0.1 here"),
        ({"methods": {**METHODS, "half": "scheduled_sampling:schedule=constant,k=0.4"}},
         "methods.half.settings.k is 0.5 there, and 0.4 here"),
        ({"task": replace(TASK, noise=0.5)}, "task.settings.noise is 0.3 there, and 0.5 here"),
    ],
)  # fmt: skip
def test_another_comparison_is_left_alone(finished, changed, message):
    _, output = finished
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    settings = {**SMALL, "task": TASK, "methods": METHODS, "seeds": 2, "output": output, **changed}
    message = f"{output}: it holds another comparison: {message}; choose another output directory"
    with raises(CheckpointError, message):
        compare(settings.pop("task"), settings.pop("methods"), **settings)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_finished_comparison_takes_more_methods_and_seeds(finished, tmp_path, capsys):
    comparison, output = finished
    copy, whole = tmp_path / "copy", tmp_path / "whole"
    shutil.copytree(output, copy)
    times = {path: path.stat().st_mtime_ns for path in copy.glob("*/*/*.safetensors")}
    more = {**METHODS, "smooth": MLE(label_smoothing=0.1)}
    settings = {**SMALL, "seeds": 3, "quiet": False}
    grown = compare(TASK, more, output=copy, **settings).results
    shown = " ".join(capsys.readouterr().err.split())
    assert (
        "4 of 9 runs are finished; training 5: smooth (seed 0, 1, 2), mle (seed 2), half (seed 2)"
    ) in shown
    assert {path: path.stat().st_mtime_ns for path in times} == times
    expected = compare(TASK, more, output=whole, **{**settings, "quiet": True}).results
    for name in more:
        for kind in ("test", "dev", "updates", "error_by_position"):
            assert grown["methods"][name][kind] == expected["methods"][name][kind]
    assert json.loads((copy / "comparison.json").read_text())["seeds"] == [0, 1, 2]
    # With fewer, the others are left out, and stay.
    fewer = compare(TASK, {"half": more["half"]}, output=copy, **{**settings, "seeds": [1]})
    shown = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 runs are finished" in shown
    assert "left out, but kept: mle, smooth, seed 0, seed 2" in shown
    values = figures(fewer.results, "half")["values"]
    assert values == figures(comparison.results, "half")["values"][1:]
    plan = json.loads((copy / "comparison.json").read_text())
    assert (list(plan["methods"]), plan["seeds"]) == (["mle", "half", "smooth"], [0, 1, 2])


def test_variants_of_two_plans_cannot_share_a_folder(finished):
    _, output = finished
    message = f"{output}: 'h/lf' would share the folder of 'h-lf' there; choose another name"
    record = Record.read(output / "comparison.json")
    there = replace(record, methods={"h-lf": record.methods["half"]})
    with raises(CheckpointError, message):
        check_folders(["h/lf"], there, output)
    check_folders(["h-lf", "other"], there, output)


def test_a_plan_of_an_older_version_is_refused(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "copy")
    path = tmp_path / "copy" / "comparison.json"
    plan = json.loads(path.read_text())
    del plan["codec"]
    path.write_text(json.dumps(plan))
    message = (
        f"{path}: the field 'codec' is missing; was it written by another version of freerun? "
        "Train again"
    )
    with raises(CheckpointError, message):
        compare(TASK, METHODS, output=tmp_path / "copy", **{**SMALL, "seeds": 2})


def test_a_full_disk_is_named_with_the_plan(refuses, tmp_path):
    output = tmp_path / "out"
    with full():
        refuses(CheckpointError, f"{output / 'comparison.json'}: {FULL}", output=output)
    assert list(output.iterdir()) == []


def test_a_broken_plan_is_named(refuses, tmp_path):
    path = tmp_path / "out" / "comparison.json"
    path.parent.mkdir()
    path.write_text("{")
    refuses(
        CheckpointError,
        f"{path}: not JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))",
    )


def test_settings_that_do_not_suit_are_found_before_training(refuses):
    refuses(
        SettingError,
        "attention='aligned' needs targets as long as their source, but this vocabulary has an eos",
        model=replace(MODEL, attention="aligned"),
    )


def test_data_that_cannot_be_used_are_found_before_training(refuses, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    refuses(DataError, f"{empty}: the file is empty", task=Spelling(data=str(empty)))


def test_without_matplotlib_there_is_all_but_plots(finished, tmp_path, monkeypatch, capsys):
    whole, folder = finished
    output = tmp_path / "out"
    shutil.copytree(folder, output)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    settings = {**SMALL, "seeds": 2, "command": "freerun compare …", "quiet": False}
    plain = compare(TASK, METHODS, output=output, **settings)
    assert [path.name for path in plain.files] == ["results.json", "report.html"]
    note = "Plots are left out, because matplotlib is missing: pip install 'freerun[plots]'."
    assert note in " ".join(capsys.readouterr().err.split())
    page = (output / "report.html").read_text("utf-8")
    assert note in html.unescape(page)
    assert "<svg" not in page
    assert plain.results["methods"] == whole.results["methods"]


def test_missing_libraries_are_found_before_training(refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    refuses(
        MissingExtraError,
        "report_to=tensorboard needs tensorboard, which is missing: pip install "
        "'freerun[tensorboard]'",
        training=replace(TRAINING, report_to=("tensorboard",)),
    )


@pytest.mark.parametrize(
    ("given", "seeds"), [(1, (0,)), (3, (0, 1, 2)), ([7, 3], (7, 3)), ((5,), (5,))]
)
def test_seeds_are_a_number_or_a_list(given, seeds):
    assert list_seeds(given) == seeds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "seeds is 0; at least one is needed"),
        (-1, "seeds is -1; at least one is needed"),
        ([], "seeds is []; at least one is needed"),
        ([1, 1], "seeds is [1, 1]; they must differ, and be at least 0"),
        ([0, -1], "seeds is [0, -1]; they must differ, and be at least 0"),
    ],
)
def test_wrong_seeds_are_refused(given, message):
    with raises(SettingError, message):
        list_seeds(given)
