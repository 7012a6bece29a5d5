"""Results of a comparison as a data frame."""

import json
import math
import sys
from pathlib import Path

import pytest

import freerun
from freerun.data import MissingExtraError
from freerun.errors import CheckpointError
from freerun.study import read_data_frame, read_results
from freerun.study.results import write_results
from tests.helpers import raises

MEASURED = Path(freerun.__file__).parents[2] / "docs" / "results" / "spelling-0.5"


def test_a_frame_has_a_row_for_every_figure():
    pytest.importorskip("pandas")
    frame = read_data_frame(MEASURED)
    results = json.loads((MEASURED / "results.json").read_text())
    assert list(frame.columns) == ["method", "seed", "split", "metric", "value", "difference"]
    methods, seeds = results["methods"], results["seeds"]
    assert len(frame) == len(methods) * len(seeds) * (2 + 2 + 3)
    assert not frame.duplicated(["method", "seed", "split", "metric"]).any()
    test = frame[(frame.split == "test") & (frame.metric == "exact_match")]
    entry = methods["scheduled_sampling"]
    own = test[test.method == "scheduled_sampling"]
    assert own.seed.tolist() == seeds
    assert own.value.tolist() == entry["test"]["exact_match"]["values"]
    assert own.difference.tolist() == entry["difference_to_mle"]["exact_match"]["values"]
    means = test.groupby("method").value.mean()
    assert means["mle"] == pytest.approx(methods["mle"]["test"]["exact_match"]["mean"])
    train = frame[(frame.split == "train") & (frame.method == "mle")].set_index(["metric", "seed"])
    assert train.value["updates", seeds[0]] == methods["mle"]["updates"][0]
    assert train.difference.isna().all()


def test_pandas_is_needed_only_for_frames(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert read_results(MEASURED)["base"] == "mle"
    needs = "freerun.study.read_data_frame needs pandas, which is missing"
    with raises(MissingExtraError, f"{needs}: pip install 'freerun[pandas]'"):
        read_data_frame(MEASURED)


def test_what_cannot_be_computed_is_null_in_the_file_and_nan_when_read(tmp_path):
    results = read_results(MEASURED)
    point = results["methods"]["mle"]["learning_curves"][0][0]
    point["teacher_forced_loss"] = math.nan
    text = write_results(results, tmp_path).read_text()
    assert "NaN" not in text
    found = read_results(tmp_path)["methods"]["mle"]["learning_curves"][0][0]
    assert math.isnan(found.pop("teacher_forced_loss"))
    assert found == {k: v for k, v in point.items() if k != "teacher_forced_loss"}


def test_results_of_older_versions_have_intervals_over_seeds():
    results = read_results(MEASURED)
    assert results["intervals"] == "seeds"
    found = results["methods"]["scheduled_sampling"]["difference_to_mle"]["character_error"]
    # t(0.975, 2) = 4.302653, and the mean and deviation of the three differences.
    half = 4.302653 * found["std"] / 3**0.5
    assert found["low"] == pytest.approx(found["mean"] - half)
    assert found["high"] == pytest.approx(found["mean"] + half)


@pytest.mark.parametrize("group", ["error_by_position", "error_after_reference"])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_all_errors_by_position_are_of_as_many_positions(tmp_path, group, name):
    results = json.loads((MEASURED / "results.json").read_text())
    positions = results["methods"]["mle"]["error_by_position"]
    results["methods"]["mle"]["error_after_reference"] = dict(positions)
    results["methods"]["mle"][group][name] = positions[name][:-1]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    count = len(positions["count"])
    message = f"{path}: methods.mle.{group}.{name}: there are {count - 1}, but {count} positions"
    with raises(CheckpointError, message):
        read_results(path)
