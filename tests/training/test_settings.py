"""Every setting has an effect, and bad values are refused by name."""

from __future__ import annotations

import sys

import pytest
import torch

from freerun.data import MissingExtraError
from freerun.models.settings import CausalSettings, PretrainedSettings, RecurrentSettings
from freerun.training import TrainingSettings
from tests.helpers import raises
from tests.training.tiny_task import Tiny, TinyCodec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updates": 0}, "updates is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"accumulation": 0}, "accumulation is 0; it must be at least 1"),
        ({"evaluate_every": 0}, "evaluate_every is 0; it must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size is 0; it must be at least 1"),
        ({"patience": 0}, "patience is 0; it must be at least 1"),
        ({"threads": 0}, "threads is 0; it must be at least 1"),
        ({"threads": -2}, "threads is -2; it must be at least 1"),
        ({"budget": 0.0}, "budget is 0.0; it must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be at least 0"),
        ({"warmup": -1.0}, "warmup is -1.0; it must be at least 0"),
        ({"clip": -1.0}, "clip is -1.0; it must be at least 0"),
        ({"momentum": 1.0, "optimizer": "sgd"}, "momentum is 1.0; it must be in [0, 1)"),
        ({"momentum": 0.9}, "momentum has no effect on optimizer=adam; sgd and rmsprop have it"),
        ({"seed": -1}, "seed is -1; it must be in [0, 2^32)"),
        ({"optimizer": "lion"}, "optimizer is lion; it must be one of adam, adamw, sgd, rmsprop"),
        ({"lr_schedule": "step"},
         "lr_schedule is step; it must be one of constant, linear, cosine, inverse_sqrt"),
        ({"precision": "fp8"}, "precision is fp8; it must be one of fp32, bf16, fp16"),
        ({"keep": "first"}, "keep is first; it must be one of best, last"),
    ],
)  # fmt: skip
def test_settings_out_of_range(unchecked, settings, message):
    with raises(ValueError, message):
        TrainingSettings(**settings)


def test_every_setting_reaches_transformers(tmp_path):
    settings = TrainingSettings(
        updates=30,
        batch_size=6,
        accumulation=3,
        learning_rate=0.5,
        weight_decay=0.25,
        lr_schedule="cosine",
        warmup=0.1,
        clip=2.5,
        precision="bf16",
        gradient_checkpointing=True,
        evaluate_every=7,
        eval_batch_size=11,
        keep="last",
        seed=9,
        report_to=("tensorboard",),
    )
    arguments = settings.arguments(tmp_path, Tiny(), quiet=True)
    expected = {
        "max_steps": 30,
        "per_device_train_batch_size": 6,
        "gradient_accumulation_steps": 3,
        "learning_rate": 0.5,
        "weight_decay": 0.25,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_grad_norm": 2.5,
        "bf16": True,
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "eval_steps": 7,
        "per_device_eval_batch_size": 11,
        "save_steps": 7,
        "load_best_model_at_end": False,
        "metric_for_best_model": "character_error",
        "greater_is_better": False,
        "seed": 9,
        "report_to": ["tensorboard"],
        "disable_tqdm": True,
        "output_dir": str(tmp_path),
    }
    assert {name: getattr(arguments, name) for name in expected} == expected
    plain = TrainingSettings().arguments(tmp_path, Tiny())
    assert plain.load_best_model_at_end
    assert plain.report_to == []
    assert not plain.bf16
    assert not plain.gradient_checkpointing
    assert not plain.disable_tqdm


def test_checkpointing_is_for_models_that_have_it():
    checkpointed = TrainingSettings(gradient_checkpointing=True)
    checkpointed.check(CausalSettings(hidden_size=8, layers=1, heads=2).build(TinyCodec()))
    policy = RecurrentSettings(hidden_size=4, embedding_size=4).build(TinyCodec())
    TrainingSettings().check(policy)
    message = (
        "gradient_checkpointing=true has no effect on RecurrentPolicy; "
        "causal and seq2seq models have it"
    )
    with raises(ValueError, message):
        checkpointed.check(policy)


def test_a_constant_rate_may_be_warmed_up(tmp_path):
    arguments = TrainingSettings(warmup=3.0).arguments(tmp_path, Tiny())
    assert arguments.lr_scheduler_type == "constant_with_warmup"
    assert TrainingSettings().arguments(tmp_path, Tiny()).lr_scheduler_type == "constant"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_optimizers(name, kind):
    momentum = 0.5 if name in ("sgd", "rmsprop") else 0.0
    settings = TrainingSettings(optimizer=name, learning_rate=0.1, momentum=momentum)
    cls, kwargs = settings.optimizer_cls_and_kwargs
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([weight], **kwargs)
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.1
    assert optimizer.defaults.get("momentum", 0.0) == momentum
    weight.grad = torch.ones(3)
    optimizer.step()
    assert (weight < 1).all()


def test_half_precision_needs_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(
        ValueError, match=r"^precision=fp16 needs a GPU; use bf16 or fp32 on the CPU$"
    ):
        TrainingSettings(precision="fp16").arguments(tmp_path, Tiny())


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_trackers_may_be_missing(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    message = f"report_to={name} needs {name}, which is missing: pip install 'freerun[{name}]'"
    with raises(MissingExtraError, message):
        TrainingSettings(report_to=(name,)).arguments(tmp_path, Tiny())


def test_unknown_trackers_are_refused():
    message = "report_to is all; it must be one of tensorboard, wandb, mlflow, trackio"
    with raises(ValueError, message):
        TrainingSettings(report_to=("all",))


def test_model_settings_build_what_they_say():
    settings = RecurrentSettings(
        cell="lstm",
        hidden_size=12,
        embedding_size=10,
        layers=2,
        bidirectional=True,
        attention="additive",
        input_feeding=True,
        dropout=0.1,
    )
    codec = TinyCodec()
    policy = settings.build(codec)
    assert RecurrentSettings.from_config(policy.config) == settings
    assert policy.vocabulary == codec.target
    assert policy.config.limit == codec.limit
    assert policy.config.factors == codec.factors


@pytest.mark.parametrize(
    ("model", "rows", "settings", "expected"),
    [
        # A new model reads 60 epochs, and at least 1000 and at most 10000 updates.
        (None, 8_000, {}, (7_500, 500, 1e-3)),
        (RecurrentSettings(), 400, {}, (1_000, 100, 1e-3)),
        (CausalSettings(), 10**6, {}, (10_000, 500, 1e-3)),
        (CausalSettings(), 8_000, {"accumulation": 2}, (3_750, 375, 1e-3)),
        (None, None, {}, (10_000, 500, 1e-3)),
        # A pretrained one, 5 epochs, and at least 100 updates.
        (PretrainedSettings(path="x"), 400, {"batch_size": 16}, (125, 12, 5e-5)),
        (PretrainedSettings(path="x"), 10, {}, (100, 10, 5e-5)),
        (PretrainedSettings(path="x", lora=4), 10, {}, (100, 10, 2e-4)),
        (PretrainedSettings(path="x", lora=4), 10, {"learning_rate": 1e-2}, (100, 10, 1e-2)),
        (None, 8_000, {"updates": 7, "evaluate_every": 3}, (7, 3, 1e-3)),
        (None, 8_000, {"updates": 7}, (7, 1, 1e-3)),
        (None, 8_000, {"budget": 60.0}, (7_500, 500, 1e-3)),
    ],
)
def test_settings_that_depend_on_the_data_and_the_kind_of_model(model, rows, settings, expected):
    found, _ = TrainingSettings(**settings).complete(rows, model)
    assert (found.updates, found.evaluate_every, found.learning_rate) == expected
    assert found.complete(rows, model) == (found, [])


def test_settings_that_were_chosen_are_named():
    settings = TrainingSettings(batch_size=16)
    assert settings.complete(400, PretrainedSettings(path="x"))[1] == [
        "125 updates of 16 examples: 5 epochs",
        "learning rate 5e-05, that for pretrained models",
    ]
    assert TrainingSettings(updates=3, learning_rate=1.0).complete(400)[1] == []
