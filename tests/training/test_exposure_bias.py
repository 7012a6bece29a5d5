"""Exposure bias as a metric of evaluations, in freerun's Trainer and in that of transformers."""

from __future__ import annotations

import pytest
import torch
import transformers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import DataCollatorForSeq2Seq, TrainingArguments

from freerun.evaluation import Decoding, measure_exposure_bias
from freerun.methods import ScheduledSampling
from freerun.training import ExposureBiasCallback
from freerun.training.datasets import make_codec, make_examples
from freerun.training.model_source import make_policy
from tests.training.test_trainer import DATA, trainer
from tests.training.tiny_models import text_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer(pad_token="<eos>")
ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(1, 7) for b in range(1, 7)]
EVALUATED = {
    "max_steps": 30,
    "learning_rate": 0.03,
    "eval_strategy": "steps",
    "eval_steps": 15,
    "per_device_eval_batch_size": 3,
}
OWN = ScheduledSampling(feedback="sample", schedule="constant", k=0.5)


def run(output, **settings):
    """freerun's Trainer of a recurrent model, which draws random numbers in training."""
    return trainer(output, OWN, {**EVALUATED, **settings})


def tokenize(kind):
    """The rows as tokens and labels, as a plain Trainer takes them."""
    for row in ROWS:
        prompt, target = (TOKENIZER(row[name])["input_ids"] for name in ("prompt", "completion"))
        target = [*target, TOKENIZER.eos_token_id]
        if kind == "t5":
            yield {"input_ids": prompt, "labels": target}
        else:
            yield {"input_ids": prompt + target, "labels": [-100] * len(prompt) + target}


def plain(output, kind, **settings):
    """A Trainer of transformers."""
    dropout = {"dropout_rate": 0.2} if kind == "t5" else {"attention_dropout": 0.2}
    model = text_model(kind, TOKENIZER, **dropout)
    rows = list(tokenize(kind))
    arguments = TrainingArguments(
        str(output),
        **{
            **EVALUATED,
            "per_device_train_batch_size": 4,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 2,
            **settings,
        },
    )
    return transformers.Trainer(
        model,
        arguments,
        train_dataset=rows[8:],
        eval_dataset=rows[:8],
        processing_class=TOKENIZER,
        data_collator=DataCollatorForSeq2Seq(TOKENIZER),
    )


def logged(found):
    """The logged values by update."""
    history = found.state.log_history
    return {e["step"]: e["eval_exposure_bias"] for e in history if "eval_exposure_bias" in e}


def are_equal(one, other):
    own, others = one.state_dict(), other.state_dict()
    return all(torch.equal(own[name], others[name]) for name in own)


def test_every_evaluation_of_our_trainer_has_the_excess(tmp_path):
    found = run(tmp_path)
    found.add_callback(ExposureBiasCallback(found, count=7, cost="hamming"))
    found.train()
    values = logged(found)
    assert list(values) == [15, 30]
    metrics = found.evaluate()
    assert metrics["eval_exposure_bias"] == values[30]
    total = len(DATA.dev)
    sources = [DATA.dev.sources[i * total // 7] for i in range(7)]
    subset = type(DATA.dev)(tuple(sources), DATA.dev.eos, [])
    expected = measure_exposure_bias(found.objective.model, subset, cost="hamming", draws=1)
    assert values[30] == pytest.approx(expected.excess.value)
    assert values[30] != 0
    without = run(tmp_path)
    without.train()
    assert are_equal(found.objective.model, without.objective.model)
    assert "eval_exposure_bias" not in without.evaluate()


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_every_evaluation_of_a_plain_trainer_has_the_excess(tmp_path, kind):
    found = plain(tmp_path, kind)
    found.add_callback(ExposureBiasCallback(found))
    found.train()
    values = logged(found)
    assert list(values) == [15, 30]
    assert found.evaluate()["eval_exposure_bias"] == values[30]
    codec = make_codec(TOKENIZER, found.model, {"examples": found.eval_dataset})
    examples = make_examples(found.eval_dataset, codec, "examples")
    expected = measure_exposure_bias(make_policy(found.model, codec), examples, draws=1)
    assert values[30] == expected.excess.value != 0
    without = plain(tmp_path, kind)
    without.train()
    assert are_equal(found.model, without.model)


def test_other_examples_may_be_rows_of_text(tmp_path):
    found = plain(tmp_path, "llama", eval_strategy="no")
    callback = ExposureBiasCallback(found, ROWS, count=5, decoding=Decoding(sample=True, seed=4))
    assert list(map(list, callback.examples.references)) == [
        TOKENIZER(ROWS[i * len(ROWS) // 5]["completion"])["input_ids"] for i in range(5)
    ]
    found.add_callback(callback)
    assert -1 <= found.evaluate()["eval_exposure_bias"] <= 1
    assert "eval_exposure_bias" not in found.evaluate(metric_key_prefix="test")


def test_it_can_select_the_best_model_of_a_plain_trainer(tmp_path):
    settings = {
        "save_strategy": "steps",
        "save_steps": 15,
        "load_best_model_at_end": True,
        "metric_for_best_model": "exposure_bias",
        "greater_is_better": False,
    }
    found = plain(tmp_path, "llama", **settings)
    found.add_callback(ExposureBiasCallback(found))
    found.train()
    assert found.state.best_metric == min(logged(found).values())


def test_trackers_see_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    found = run(tmp_path, report_to="tensorboard")
    found.add_callback(ExposureBiasCallback(found))
    found.train()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    points = {event.step: event.value for event in events.Scalars("eval/exposure_bias")}
    assert points == {step: pytest.approx(value) for step, value in logged(found).items()}
    assert len(points) == 2


def test_mistakes_are_named_before_training(tmp_path):
    found = run(tmp_path)
    with pytest.raises(ValueError, match=r"^count is 0; it must be at least 1$"):
        ExposureBiasCallback(found, count=0)
    with pytest.raises(ValueError, match=r"^there are no examples$"):
        ExposureBiasCallback(found, type(DATA.dev)((), 4, []))
    other = plain(tmp_path, "llama")
    other.processing_class = None
    with pytest.raises(ValueError, match=r"^processing_class of the trainer is missing"):
        ExposureBiasCallback(other)
    other = plain(tmp_path, "llama", eval_strategy="no")
    other.eval_dataset = None
    with pytest.raises(ValueError, match=r"^eval_dataset is missing; it must be a Dataset"):
        ExposureBiasCallback(other)
    other = plain(tmp_path, "llama")
    other.is_fsdp_enabled = True
    with pytest.raises(ValueError, match=r"^exposure bias cannot be measured where parameters are"):
        ExposureBiasCallback(other)
