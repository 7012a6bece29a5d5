"""Trackers: what they saved is read back."""

import importlib
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from freerun.methods import MLE, ScheduledSampling
from freerun.study import compare
from freerun.training import fit
from tests.training.test_fit import DATA, MODEL, TASK, TRAINING

METHOD = ScheduledSampling(schedule="constant", k=0.5)


def tracked(output, tracker, **settings):
    training = replace(TRAINING, report_to=(tracker,), seed=3)
    fitted = {"model": MODEL, "training": training, "output": output, "quiet": True}
    return fit(TASK, DATA, METHOD, **{**fitted, **settings})


def read_events(folder):
    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_has_metrics_and_hyperparameters(tmp_path):
    found = tracked(tmp_path, "tensorboard")
    events = read_events(tmp_path / "runs")
    assert {"train/loss", "eval/character_error"} <= set(events.Tags()["scalars"])
    points = {event.step: event.value for event in events.Scalars("eval/character_error")}
    assert points == {
        point["update"]: pytest.approx(point["character_error"]) for point in found.curve
    }
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    values = HParamsPluginData.FromString(plugin.content).session_start_info.hparams
    assert values["method"].string_value == "scheduled_sampling"
    assert values["method.k"].number_value == 0.5
    assert values["seed"].number_value == 3
    assert values["training.batch_size"].number_value == TRAINING.batch_size
    assert values["model.hidden_size"].number_value == MODEL.hidden_size


def test_a_resumed_run_goes_on_in_the_same_run_of_tensorboard(tmp_path, monkeypatch):
    whole = tracked(tmp_path / "whole", "tensorboard")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("freerun.training.fit"), "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tracked(tmp_path / "out", "tensorboard")
    assert tracked(tmp_path / "out", "tensorboard").dev == whole.dev
    assert [path.is_file() for path in (tmp_path / "out" / "runs").iterdir()] == [True, True]


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_every_run_of_a_comparison_has_its_own(tmp_path):
    training = replace(TRAINING, report_to=("tensorboard",))
    settings = {"model": MODEL, "training": training, "quiet": True, "seeds": 2}
    compare(TASK, {"base": MLE(), "half": METHOD}, output=tmp_path, **settings)
    for name in ("base", "half"):
        for seed in (0, 1):
            events = read_events(tmp_path / name / f"seed-{seed}" / "runs")
            assert "eval/character_error" in events.Tags()["scalars"]
            (arguments,) = events.Tensors("args/text_summary")
            text = arguments.tensor_proto.string_val[0].decode()
            assert f'"run_name": "{name}, seed {seed}"' in text


def test_mlflow_without_a_server(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    found = tracked(tmp_path / "one", "mlflow")
    tracked(tmp_path / "two", "mlflow", name="half, seed 3")
    runs = mlflow.MlflowClient().search_runs(["0"])
    assert {run.info.run_name for run in runs} == {"half, seed 3", "scheduled_sampling, seed 3"}
    for run in runs:
        assert run.info.status == "FINISHED"
        assert (run.data.params["method"], run.data.params["method.k"]) == (METHOD.name, "0.5")
        assert run.data.metrics["eval_character_error"] == found.curve[-1]["character_error"]


def test_trackio_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    from trackio.sqlite_storage import SQLiteStorage

    found = tracked(tmp_path / "one", "trackio", name="half, seed 3")
    values = {
        row["train/global_step"]: row["eval/character_error"]
        for row in SQLiteStorage.get_logs("freerun", "half, seed 3")
        if "eval/character_error" in row
    }
    assert values == {point["update"]: point["character_error"] for point in found.curve}
    assert SQLiteStorage.get_run_config("freerun", "half, seed 3")["method.k"] == 0.5


def test_wandb_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracked(tmp_path / "one", "wandb")
    tracked(tmp_path / "two", "wandb", name="half, seed 3")
    saved = [path.read_bytes() for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    names = [b"scheduled_sampling, seed 3", b"half, seed 3"]
    assert sorted([name in each for name in names] for each in saved) == [
        [False, True],
        [True, False],
    ]
    for each in saved:
        assert b"method.k" in each
        assert each.count(b"eval/character_error") >= 2
