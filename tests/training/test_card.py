"""The card of a trained model."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import TrainingArguments

from freerun.evaluation import Decoding
from freerun.methods import MLE, ScheduledSampling
from freerun.models.settings import RecurrentSettings
from freerun.training import Trainer
from freerun.training.card import Card
from tests.helpers import tiny_policy
from tests.tasks.tiny_tokenizers import byte_tokenizer
from tests.training.huggingface import DATA, lora, trainer
from tests.training.tiny_models import tiny_model
from tests.training.tiny_task import Tiny


def card_of(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_card_names_method_paper_settings_and_metrics(tmp_path):
    found = trainer(tmp_path / "sums", tiny_model("gpt2"), ScheduledSampling(passes=2))
    found.train()
    metrics = found.evaluate()
    found.save_model(str(tmp_path / "sums"))
    front, body = card_of(tmp_path / "sums")
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    assert front["tags"] == ["freerun", "scheduled_sampling"]
    assert "base_model" not in front
    (model,) = front["model-index"]
    assert model["name"] == "sums"
    figures = {each["type"]: each["value"] for each in model["results"][0]["metrics"]}
    assert figures == pytest.approx(
        {name.removeprefix("eval_"): value for name, value in metrics.items()}, rel=1e-5
    )
    assert body.startswith("\n# sums\n\nTrained with freerun by scheduled sampling (")
    assert "The method: Bengio et al. 2015, arXiv 1506.03099.\n" in body
    assert "| passes | 2 |\n" in body
    assert "| updates asked for | 6 |\n| updates | 6 |\n" in body
    assert f"| training examples | {len(DATA.train)} |\n" in body
    assert f"| exact match | {metrics['eval_exact_match']:.4g} |\n" in body
    assert "that the model wrote by itself, greedily," in body
    ModelCard.load(tmp_path / "sums" / "README.md")


def test_metrics_are_those_of_the_model_that_is_saved(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    settings |= {"save_steps": 2, "load_best_model_at_end": True, "learning_rate": 0.1}
    settings |= {"metric_for_best_model": "teacher_forced_loss", "greater_is_better": True}
    found = trainer(tmp_path, tiny_model("gpt2"), **settings)
    found.train()
    found.save_model(str(tmp_path / "kept"))
    best = found.state.best_global_step
    losses = {
        entry["step"]: entry["eval_teacher_forced_loss"]
        for entry in found.state.log_history
        if "eval_teacher_forced_loss" in entry
    }
    assert best < 6
    for folder, update in ((tmp_path / "kept", best), (tmp_path / "checkpoint-6", 6)):
        front, body = card_of(folder)
        figures = {e["type"]: e["value"] for e in front["model-index"][0]["results"][0]["metrics"]}
        assert figures["teacher_forced_loss"] == pytest.approx(losses[update], rel=1e-5)
        assert f"| updates | {update} |" in body


def test_a_card_says_how_to_encode_prompts(tmp_path, caplog):
    rows = [{"prompt": f"{i}+", "completion": f"{i}"} for i in range(4)]
    model = tiny_model("gpt2")
    model.resize_token_embeddings(300, mean_resizing=False)
    found = Trainer(
        model, "mle", TrainingArguments(str(tmp_path), use_cpu=True),
        processing_class=byte_tokenizer(eos=True), train_dataset=rows,
    )  # fmt: skip
    note = "The tokenizer puts </s> after every text, but not here after prompts: "
    assert note in caplog.text
    found.save_model(str(tmp_path))
    assert note in card_of(tmp_path)[1]


def test_a_model_that_was_not_evaluated_has_no_results(tmp_path):
    trainer(tmp_path, tiny_model("t5"), MLE()).save_model(str(tmp_path))
    front, body = card_of(tmp_path)
    assert "model-index" not in front
    assert front["pipeline_tag"] == "text2text-generation"
    assert "Results" not in body


def test_the_card_of_adapters(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path / "base")
    found = trainer(tmp_path / "run", str(tmp_path / "base"), peft_config=lora())
    found.save_model(str(tmp_path / "run"))
    front, body = card_of(tmp_path / "run")
    assert front["library_name"] == "peft"
    assert "base_model" not in front  # a path of this machine is no name
    assert "| base model | base |\n| adapters | LORA, rank 2 |\n" in body
    assert "named in `adapter_config.json`" in body


def test_the_card_of_a_recurrent_policy(tmp_path):
    policy = RecurrentSettings(hidden_size=4, embedding_size=4).build(DATA.codec)
    trainer(tmp_path, policy, MLE()).save_model(str(tmp_path))
    front, body = card_of(tmp_path)
    assert front["library_name"] == "freerun"
    assert "pipeline_tag" not in front
    assert "Plain transformers" not in body


@pytest.mark.parametrize(
    ("decoding", "how"),
    [
        (Decoding(), "greedily"),
        (Decoding(beam=4), "by a beam search of size 4"),
        (Decoding(sample=True, top_k=5), "by sampling (top-k 5, seed 0)"),
        (Decoding(noise=0.1), "by greedy decoding (errors planted at a rate of 0.1, seed 0)"),
    ],
)  # fmt: skip
def test_a_card_says_how_outputs_were_decoded(decoding, how):
    training = TrainingArguments("unused", use_cpu=True).to_dict()
    metrics = {"exact_match": 0.5, "backspace_rate": 0.25}
    text = Card(
        "sums", tiny_policy(), DATA.codec, MLE(), Tiny(), decoding, training, 3, metrics
    ).text()
    assert f"Of outputs that the model wrote by itself, {how}, for the evaluation data" in text
    assert "| backspace rate | 0.25 |\n" in text
