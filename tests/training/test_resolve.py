"""What users name becomes a run: models, tokenizers, rows and methods, each loaded once."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    TrainingArguments,
    pipeline,
)
from transformers.utils import logging

from freerun.data import TextCodec
from freerun.evaluation import decode_hypotheses
from freerun.methods import METHODS, MLE, BehaviorCloning, Reinforce, ScheduledSampling
from freerun.models import CausalPolicy, Seq2SeqPolicy
from freerun.models.huggingface import base
from freerun.models.loading import quiet_transformers
from freerun.models.settings import CausalSettings, PretrainedSettings
from freerun.study import compare
from freerun.tasks import Digits, Spelling
from freerun.training import Trainer, TrainingSettings, fit, load_policy
from tests.codecs import letters_of_images
from tests.helpers import searnn
from tests.training.huggingface import DATA, TASK
from tests.training.tiny_models import text_model, tiny_model, tiny_tokenizer

ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(6) for b in range(6)]
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def trainer(output, model=None, method="mle", tokenizer=None, rows=ROWS, **members):
    arguments = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        **members.pop("arguments", {}),
    }
    model = text_model() if model is None else model
    members = {"train_dataset": rows, "eval_dataset": ROWS[:5], **members}
    members.setdefault("processing_class", tokenizer or tiny_tokenizer())
    return Trainer(model, method, TrainingArguments(str(output), **arguments), **members)


def column(hypotheses, lengths, references, reference_lengths):
    """A cost with a dimension too much."""
    return (lengths - reference_lengths).abs()[:, None]


def test_a_cost_is_tried_before_training(tmp_path):
    message = "the cost gave a Tensor of shape (2, 1) for 2 rows; it must be a tensor of shape (2,)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}, a number for each$"):
        trainer(tmp_path, method=Reinforce(cost=column))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a model and its tokenizer."""
    folder = tmp_path_factory.mktemp("saved")
    text_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [name for name in METHODS if name != "gkd"])
def test_a_method_by_name(tmp_path, name):
    found = trainer(tmp_path, method=name)
    assert type(found.objective.method) is METHODS[name]
    found.train()
    expected = {"eval_exact_match", "eval_character_error", "eval_teacher_forced_loss"}
    assert set(found.evaluate()) >= expected


def test_the_cost_is_that_of_outputs_as_text(tmp_path):
    assert trainer(tmp_path, method="searnn").objective.method.cost == "edit_distance"
    chosen = searnn(cost="bleu")
    assert trainer(tmp_path, method=chosen).objective.method.cost == "bleu"


@pytest.mark.parametrize("form", [str, lambda path: path], ids=["text", "path"])
def test_a_model_by_where_it_is(tmp_path, saved, form):
    found = trainer(tmp_path, form(saved), processing_class=None)
    assert isinstance(found.objective.model, CausalPolicy)
    assert isinstance(found.processing_class, TextCodec)
    own = text_model().state_dict()
    state = found.objective.model.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_rows_of_every_form(tmp_path, kind):
    plain = [{"source": row["prompt"], "target": row["completion"]} for row in ROWS]
    policies = []
    for rows in (plain, tuple(plain), Dataset.from_list(plain)):
        found = trainer(tmp_path, text_model(kind), MLE(), rows=rows, eval_dataset=None)
        assert isinstance(found.objective.model, Seq2SeqPolicy if kind == "t5" else CausalPolicy)
        found.train()
        policies.append(found.objective.model.state_dict())
    for state in policies[1:]:
        assert all(torch.equal(policies[0][name], value) for name, value in state.items())
    codec = found.processing_class
    assert codec.bos == (0 if kind == "t5" else None)
    assert codec.continues is (kind != "t5")
    assert codec.column == "source"
    assert codec.limit == 4  # Two digits and eos, and half as many again.


def test_examples_of_ones_own(tmp_path):
    codec = TextCodec(tiny_tokenizer(), limit=9)
    examples = codec.encode(ROWS)
    found = trainer(tmp_path, rows=examples, eval_dataset=ROWS[:3], processing_class=codec)
    assert found.processing_class is codec
    assert found.objective.model.max_new_tokens == 9
    assert len(found.eval_dataset) == 3
    learnt = trainer(tmp_path, rows=examples, eval_dataset=None)
    assert learnt.objective.model.max_new_tokens == 4


def test_the_side_that_a_tokenizer_pads_is_no_matter(tmp_path):
    weights = []
    for side in ("left", "right"):
        tokenizer = tiny_tokenizer(padding_side=side)
        found = trainer(tmp_path, method=ScheduledSampling(feedback="sample"), tokenizer=tokenizer)
        found.train()
        weights.append(found.objective.model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_padding_may_be_eos(tmp_path):
    """eos is learnt, whatever fills shorter rows."""
    weights = []
    for settings in ({}, {"pad_token": "<unk>"}, {"pad_token": "a"}):
        tokenizer = tiny_tokenizer(**settings)
        model = text_model()
        found = trainer(tmp_path, model, tokenizer=tokenizer, arguments={"max_steps": 3})
        found.train()
        weights.append(model.state_dict())
        assert model.lm_head.weight[0].ne(text_model().lm_head.weight[0]).any()
    for state in weights[1:]:
        assert all(torch.equal(weights[0][name], value) for name, value in state.items())


def test_a_trained_policy_goes_on(tmp_path):
    first = trainer(tmp_path / "first")
    first.train()
    first.save_model(str(tmp_path / "first"))
    again = trainer(tmp_path / "again", str(tmp_path / "first"), processing_class=None)
    state = first.objective.model.state_dict()
    mine = again.objective.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in mine.items())
    assert again.processing_class.limit == first.processing_class.limit
    again.train()
    adapted = trainer(
        tmp_path / "adapted",
        str(tmp_path / "first"),
        processing_class=None,
        peft_config=LoraConfig(**LORA),
    )
    adapted.train()
    adapted.save_model(str(tmp_path / "adapted"))
    policy, _ = load_policy(tmp_path / "adapted")
    assert decode_hypotheses(policy, adapted.eval_dataset) == decode_hypotheses(
        adapted.objective.model, adapted.eval_dataset
    )


def test_a_peft_model(tmp_path, saved):
    model = AutoModelForCausalLM.from_pretrained(saved)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        adapted = get_peft_model(model, LoraConfig(**LORA))
    found = trainer(tmp_path, adapted)
    found.train()
    changed = {name for name, p in found.objective.model.named_parameters() if p.requires_grad}
    assert changed
    assert all("lora_" in name for name in changed)
    message = "^the model has adapters already, which are trained; leave peft_config out$"
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, adapted, peft_config=LoraConfig(**LORA))


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("adapted", [False, True])
def test_plain_transformers_writes_what_was_measured(tmp_path, caplog, kind, adapted):
    """Whatever the generation config of the model that training began with says."""
    given = text_model(kind)
    own = {"num_beams": 3, "no_repeat_ngram_size": 1, "repetition_penalty": 9.0}
    own |= {"min_new_tokens": 3, "forced_eos_token_id": 5, "eos_token_id": [3, 4], "top_k": 7}
    given.generation_config.update(**own, do_sample=True, temperature=0.3, suppress_tokens=[6])
    with torch.no_grad():
        for weight in given.parameters():
            weight.mul_(3 if weight.dim() == 2 else 1)  # so that outputs differ
    if adapted:
        given.save_pretrained(tmp_path / "base")
        given = type(given).from_pretrained(tmp_path / "base")
    rows = [*ROWS, {"prompt": "?", "completion": "a long one"}]
    lora = {"r": 2, "target_modules": ["q_proj", "v_proj"] if kind == "llama" else ["q", "v"]}
    members = {"peft_config": LoraConfig(**lora)} if adapted else {}
    caplog.clear()
    found = trainer(tmp_path / "run", given, rows=rows, **members)
    (told,) = (text for text in caplog.messages if text.startswith("the generation config of"))
    assert all(f"{name}=" in told for name in (*own, "do_sample", "suppress_tokens"))
    found.train()
    folder = str(tmp_path / "run")
    # Settings on the model's configuration, which transformers does not save, and another eos.
    inner = found.objective.model.inner
    inner.config.num_beams, inner.config.eos_token_id = 4, 5
    found.save_model(folder)
    assert (inner.config.num_beams, inner.config.eos_token_id) == (4, 5)
    if not adapted:
        saved = AutoConfig.from_pretrained(folder)
        assert saved.eos_token_id == found.processing_class.target.eos
        assert getattr(saved, "num_beams", None) is None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert found.objective.model.inner.generation_config.num_beams == 3  # the user's is not changed
    auto = type(found.objective.model.inner)
    model = auto.from_pretrained(folder)
    config = GenerationConfig.from_pretrained(folder)
    model.generation_config = config if adapted else model.generation_config
    prompts = [row["prompt"] for row in ROWS[:5]]
    ours = [
        found.processing_class.decode(row)
        for row in decode_hypotheses(found.objective.model, found.eval_dataset)
    ]
    theirs = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).input_ids
        written = model.generate(ids)[0]
        written = written[1 if kind == "t5" else ids.shape[1] :]
        theirs.append(tokenizer.decode(written, skip_special_tokens=True).strip())
    assert theirs == ours
    assert any(ours)
    if kind == "llama":
        pipe = pipeline("text-generation", model=folder, tokenizer=folder, device="cpu")
        pipe.model.generation_config = model.generation_config
        for prompt, own in zip(prompts, ours, strict=True):
            (answer,) = pipe(prompt, return_full_text=False)
            assert answer["generated_text"].strip() == own


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"processing_class": None}, "processing_class is missing: the tokenizer of the model, or"),
        ({"model": torch.nn.Linear(1, 1)}, "a Linear is neither a policy nor a Hugging Face model"),
        ({"rows": None}, "train_dataset is missing; it must be a Dataset of the datasets library"),
        ({"rows": {"train": ROWS}}, "train_dataset is a dict; it must be a Dataset of the"),
        ({"rows": Dataset.from_list(ROWS).to_iterable_dataset()},
         "train_dataset is a stream; a run must know its examples beforehand"),
        ({"rows": DATA.train}, "Examples of a task come with a codec: pass it as processing_class"),
        ({"peft_config": LoraConfig(**LORA)},
         "adapters are saved without their base model, which must be found again: save it first, "
         "and pass its path or name as model"),
        ({"rows": [{"question": "1+1"}]}, "train_dataset: the columns are question; known are"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(tmp_path, members, message):
    rows = members.get("rows", ROWS)
    members = {"eval_dataset": None, **members, "rows": rows}
    if isinstance(members.get("model"), type(None)):
        members["model"] = text_model()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        trainer(tmp_path, **members)


def test_peft_may_be_missing(tmp_path, saved, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    message = r"^peft_config needs peft, which is missing: pip install 'freerun\[lora\]'$"
    with pytest.raises(ImportError, match=message):
        trainer(tmp_path, str(saved), peft_config=LoraConfig(**LORA))


def test_recurrent_policies_take_no_adapters(tmp_path):
    from freerun.models.settings import RecurrentSettings

    policy = RecurrentSettings(hidden_size=4, embedding_size=4).build(DATA.codec)
    members = {"rows": DATA.train, "eval_dataset": None, "processing_class": DATA.codec}
    message = "^peft_config needs a Hugging Face model, not a policy$"
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, policy, peft_config=LoraConfig(**LORA), **members)
    message = "^a policy needs as processing_class the codec that it was made for$"
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, policy, **{**members, "processing_class": tiny_tokenizer()})


def test_another_codec_is_refused(tmp_path):
    first = trainer(tmp_path / "first")
    first.save_model(str(tmp_path / "first"))
    other = TextCodec(tiny_tokenizer(pad_token="a"), limit=4)
    message = f"^{tmp_path / 'first'}: processing_class does not match it: pad of the model is 0, "
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "again", str(tmp_path / "first"), processing_class=other)
    again = trainer(tmp_path / "again", str(tmp_path / "first"), tokenizer=tiny_tokenizer())
    assert again.processing_class.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    other = tiny_tokenizer(extra_special_tokens=["<new>"])
    message = (
        f"^{tmp_path / 'first'}: it was trained with other tokens; leave processing_class out$"
    )
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "again", str(tmp_path / "first"), tokenizer=other)
    with pytest.raises(ValueError, match="peft_config is a dict; it must be a configuration"):
        trainer(tmp_path / "again", str(tmp_path / "first"), peft_config={"r": 2})


def test_tasks_that_are_not_text(tmp_path):
    message = "^the data are not text, which a Hugging Face model needs; use a recurrent one$"
    members = {"rows": DATA.train, "eval_dataset": None, "processing_class": letters_of_images()}
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, tiny_model("gpt2"), **members)


def test_what_is_cut_is_told(tmp_path, caplog):
    codec = TextCodec(tiny_tokenizer(), limit=8, max_prompt=2, truncation="start")
    rows = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "7", "completion": "7"}] * 4
    trainer(tmp_path, rows=rows, processing_class=codec)
    told = "train_dataset: 4 prompts of 8 were cut off at the start"
    assert told in caplog.messages
    caplog.clear()
    made = codec.encode(rows)  # which told its notes to whoever made it
    trainer(tmp_path, rows=made, processing_class=codec)
    assert made.notes == [told.removeprefix("train_dataset: ")]
    assert told not in caplog.messages


@pytest.fixture
def counts(monkeypatch):
    """How often weights were loaded, and models were probed."""
    found = {"loaded": 0, "probed": 0}
    probe, load = base.check_scores, PreTrainedModel.from_pretrained.__func__

    def counted_probe(policy):
        found["probed"] += 1
        return probe(policy)

    def counted_load(cls, *args, **kwargs):
        found["loaded"] += 1
        return load(cls, *args, **kwargs)

    monkeypatch.setattr(base, "check_scores", counted_probe)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted_load))
    return found


def test_a_trainer_loads_and_probes_a_model_once(tmp_path, saved, counts):
    trainer(tmp_path, str(saved), processing_class=None).train()
    assert counts == {"loaded": 1, "probed": 1}


@pytest.mark.parametrize("method", [MLE(), BehaviorCloning()], ids=lambda method: method.name)
def test_a_run_loads_and_probes_a_model_once(tmp_path, counts, method):
    training = TrainingSettings(updates=2, evaluate_every=2, batch_size=4, keep="last")
    model = CausalSettings(hidden_size=8, layers=1, heads=2, positions=16)
    settings = {"training": training, "quiet": True}
    fit(TASK, DATA, MLE(), model=model, output=tmp_path / "first", **settings)
    assert counts == {"loaded": 0, "probed": 1}
    # Under a budget, updates are timed on copies.
    settings["training"] = replace(training, budget=0.1, evaluate_every=10**6)
    again = PretrainedSettings(path=str(tmp_path / "first"))
    fit(TASK, DATA, method, model=again, output=tmp_path / "again", **settings)
    assert counts == {"loaded": 1, "probed": 2}
    fit(TASK, DATA, method, model=again, output=tmp_path / "again", **settings)  # is only loaded
    assert counts == {"loaded": 2, "probed": 3}
    fit(TASK, DATA, method, model=model, init=tmp_path / "first", output=tmp_path / "b", **settings)
    assert counts == {"loaded": 3, "probed": 4}


def test_a_comparison_builds_a_model_for_each_run(tmp_path, counts):
    methods = {"mle": MLE(), "cloning": BehaviorCloning(), "half": ScheduledSampling()}
    training = TrainingSettings(updates=1, evaluate_every=1, batch_size=4)
    model = CausalSettings(hidden_size=8, layers=1, heads=2, positions=16)
    task = Digits(train_size=8, dev_size=4, test_size=4)
    with pytest.raises(ValueError, match="sources are real-valued"):
        compare(task, methods, output=tmp_path, seeds=2, model=model, training=training)
    task = Spelling(train_size=8, dev_size=4, test_size=4)
    model = replace(model, positions=64)
    compare(task, methods, output=tmp_path, seeds=2, model=model, training=training, quiet=True)
    assert counts["probed"] == 6


def test_transformers_is_quiet_for_a_while():
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    logging.set_verbosity_info()
    with quiet_transformers():
        assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.ERROR
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == logging.INFO
    logging.set_verbosity(level)
    if not bars:
        logging.disable_progress_bar()
