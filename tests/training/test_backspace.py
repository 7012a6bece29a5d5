"""Training with a backspace: who gets one, from where; what is saved, loaded and resumed."""

import shutil
from dataclasses import dataclass
from typing import ClassVar

import peft
import pytest
import torch
from transformers import AutoTokenizer, TrainingArguments

from freerun.data import TextCodec
from freerun.errors import CheckpointError
from freerun.methods import MLE
from freerun.models.settings import CausalSettings, PretrainedSettings, RecurrentSettings
from freerun.tasks import load_codec
from freerun.training import Trainer, TrainingSettings, fit, load_policy
from freerun.training.resolve import resolve
from tests.helpers import edit_record, raises
from tests.training.tiny_models import CODEC, text_model, tiny_model, tiny_tokenizer
from tests.training.tiny_task import Tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TASK = Tiny(train=16, dev=4)
DATA = TASK.load()
RECURRENT = RecurrentSettings(hidden_size=8, embedding_size=8)
CAUSAL = CausalSettings(hidden_size=8, layers=1, heads=2, positions=16)
ROWS = [{"prompt": f"{i}+{i}=", "completion": str(2 * i)} for i in range(8)]


@dataclass(frozen=True)
class Erasing(MLE):
    """Teacher forcing of a policy that could withdraw tokens."""

    name: ClassVar[str] = "erasing"
    needs_backspace: ClassVar[bool] = True


def run(output, *, method=None, model=None, task=TASK, updates=2, init=None, **settings):
    settings = {"evaluate_every": updates, **settings}
    training = TrainingSettings(updates=updates, batch_size=4, threads=1, **settings)
    method = method or Erasing()
    data = (model or RECURRENT).load(task) if isinstance(model, PretrainedSettings) else task.load()
    return fit(
        task, data, method, model=model, training=training, output=output, init=init, quiet=True
    )


def trainer(output, model=None, processing=None, method=None, **members):
    arguments = TrainingArguments(
        str(output),
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=0.05,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    processing = tiny_tokenizer() if processing is None else processing
    model = text_model() if model is None else model
    return Trainer(model, method or Erasing(), arguments, processing, ROWS, ROWS[:3], **members)


def logits(model, tokens=((5, 6, 7, 8),)):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor(tokens)).logits


def scores(policy, examples=DATA.dev):
    """The scores of all targets, teacher-forced."""
    batch = examples.batch(range(len(examples)))
    with torch.no_grad():
        first = torch.full_like(batch.target[:, :1], policy.vocabulary.bos)
        inputs = torch.cat([first, batch.target[:, :-1]], 1)
        return policy.eval().force(batch.source, inputs).logits(batch.mask)


@pytest.mark.parametrize("model", [RECURRENT, CAUSAL], ids=lambda model: model.kind)
def test_a_method_that_needs_one_gets_it_and_keeps_it(tmp_path, model):
    found = run(tmp_path, model=model)
    assert found.codec == CODEC.with_backspace()
    assert found.policy.vocabulary == CODEC.with_backspace().target
    policy, codec = load_policy(tmp_path, type(CODEC))
    assert codec == found.codec
    torch.testing.assert_close(scores(policy), scores(found.policy))
    assert DATA.codec.target.backspace is None


def test_one_that_needs_none_has_none(tmp_path):
    assert run(tmp_path, method=MLE()).policy.vocabulary == CODEC.target


def interrupted(folder):
    """Leave what a run had when it was stopped half-way."""
    edit_record(folder / "freerun.json", results=None)
    (folder / "SHA256SUMS").unlink()
    (last,) = folder.glob("checkpoint-4")
    shutil.rmtree(last)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()


@pytest.mark.parametrize("model", [RECURRENT, CAUSAL], ids=lambda model: model.kind)
def test_a_resumed_run_is_the_same(keep_checkpoints, tmp_path, model):
    settings = {"model": model, "updates": 4, "evaluate_every": 2, "keep": "last"}
    whole = run(tmp_path, **settings)
    interrupted(tmp_path)
    again = run(tmp_path, **settings)
    torch.testing.assert_close(scores(again.policy), scores(whole.policy), rtol=0, atol=0)


@pytest.mark.parametrize("model", [RECURRENT, CAUSAL], ids=lambda model: model.kind)
def test_a_checkpoint_without_is_gone_on_from(tmp_path, model):
    before = run(tmp_path / "one", method=MLE(), model=model)
    codec = CODEC.with_backspace()
    policy = resolve(model, DATA, Erasing(), task=TASK, init=tmp_path / "one").policy
    torch.testing.assert_close(scores(policy)[:, :-1], scores(before.policy))
    torch.testing.assert_close(scores(policy)[:, -1], scores(before.policy).mean(1))
    found = run(tmp_path / "two", init=tmp_path / "one")
    assert found.codec == codec
    # What has one never loses it, whatever it is trained by.
    last = run(tmp_path / "three", method=MLE(), init=tmp_path / "two")
    assert last.codec == codec
    assert last.policy.vocabulary == codec.target


def test_a_checkpoint_named_as_the_model_is_gone_on_from(tmp_path):
    run(tmp_path / "one", method=MLE(), model=CAUSAL)
    model = PretrainedSettings(path=str(tmp_path / "one"))
    found = run(tmp_path / "two", model=model)
    assert found.codec == CODEC.with_backspace()
    again = PretrainedSettings(path=str(tmp_path / "two"))
    assert run(tmp_path / "three", method=MLE(), model=again).codec == found.codec
    message = (
        f"{tmp_path / 'two'}: it does not match the task: the model has a backspace, and the task "
        "has none (see with_backspace)"
    )
    with raises(CheckpointError, message):
        again.build(CODEC)


def test_outputs_of_fixed_length_are_refused(tmp_path):
    message = r"^outputs without eos cannot have a backspace$"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", task=Tiny(train=16, dev=4, eos=False))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{}, {"tie_word_embeddings": True}], ids=["untied", "tied"])
def test_a_model_of_a_user_s_own(tmp_path, settings):
    model, tokenizer = text_model(**settings), tiny_tokenizer()
    before = logits(model)
    found = trainer(tmp_path, model, tokenizer)
    size = len(tokenizer)
    assert found.processing_class.target.backspace == size
    assert found.processing_class.tokenizer.backspace_token == "<backspace>"
    assert not hasattr(tokenizer, "backspace_token")
    torch.testing.assert_close(logits(model)[..., :size], before)
    torch.testing.assert_close(logits(model)[..., size], before.mean(-1))
    row = model.get_output_embeddings().weight[size].clone()
    found.train()
    assert not torch.equal(model.get_output_embeddings().weight[size], row), "it is learnt"
    found.save_model(str(tmp_path / "saved"))
    policy, codec = load_policy(tmp_path / "saved")
    assert codec.target == found.processing_class.target
    torch.testing.assert_close(logits(policy.model), logits(model))
    # Once more, by a method that needs none.
    again = trainer(tmp_path / "again", str(tmp_path / "saved"), codec, method=MLE())
    assert again.processing_class.target == codec.target
    torch.testing.assert_close(logits(again.objective.model.model), logits(model))


def test_a_policy_and_its_codec(tmp_path):
    policy = RECURRENT.build(CODEC)
    data = {"train_dataset": DATA.train, "eval_dataset": DATA.dev}
    arguments = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none")
    found = Trainer(policy, Erasing(), arguments, CODEC, **data, task=TASK)
    assert found.objective.model is policy
    assert policy.vocabulary == found.processing_class.target == CODEC.with_backspace().target
    other = Trainer(policy, MLE(), arguments, CODEC, **data, task=TASK)
    assert other.processing_class == CODEC.with_backspace(), "the policy has one already"


@pytest.fixture(params=[{}, {"tie_word_embeddings": True}], ids=["untied", "tied"])
def base(request, tmp_path):
    """The directory of a model and its tokenizer."""
    folder = tmp_path / "base"
    text_model(**request.param).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_adapters_train_its_rows_and_keep_them(tmp_path, base):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    found = trainer(tmp_path, str(base), AutoTokenizer.from_pretrained(base), peft_config=config)
    assert config.trainable_token_indices is None, "it is left as it was"
    model, size = found.objective.model.model, len(tiny_tokenizer())
    rows = {n: w.clone() for n, w in model.named_parameters() if "trainable_tokens" in n}
    assert rows
    found.train()
    output = model.get_base_model().get_output_embeddings().token_adapter
    name = next(
        n for n, w in model.named_parameters() if w is output.trainable_tokens_delta.default
    )
    assert not torch.equal(output.trainable_tokens_delta.default, rows[name]), "it is learnt"
    found.save_model(str(tmp_path / "saved"))
    size_of = (tmp_path / "saved" / "adapter_model.safetensors").stat().st_size
    assert size_of < 20_000, "tables are not saved as a whole"
    policy, codec = load_policy(tmp_path / "saved")
    assert codec.target.backspace == size
    torch.testing.assert_close(logits(policy.model), logits(model))
    merged = policy.model.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    plain = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(logits(plain), logits(model))


class Sums(Tiny):
    """Sums as rows of text."""

    def rows(self):
        from freerun.data import Splits

        return Splits({"train": ROWS, "dev": ROWS[:3], "test": ROWS[:3]})


def test_lora_by_settings_is_resumed_and_loaded(keep_checkpoints, tmp_path, base):
    settings = {"updates": 4, "evaluate_every": 2, "keep": "last", "learning_rate": 0.05}
    settings |= {"model": PretrainedSettings(path=str(base), lora=2), "task": Sums()}
    found = run(tmp_path / "one", **settings)
    assert found.codec.target.backspace == len(tiny_tokenizer())
    interrupted(tmp_path / "one")
    again = run(tmp_path / "one", **settings)
    torch.testing.assert_close(logits(again.policy.model), logits(found.policy.model))
    # On from the adapters, which have one now.
    on = PretrainedSettings(path=str(tmp_path / "one"))
    codec = load_codec(str(tmp_path / "one"))
    policy = on.build(codec)
    torch.testing.assert_close(logits(policy.model), logits(found.policy.model))


def test_adapters_without_are_gone_on_from(tmp_path, base):
    model = PretrainedSettings(path=str(base), lora=2)
    first = run(tmp_path / "one", method=MLE(), model=model, task=Sums(), learning_rate=0.05)
    on = PretrainedSettings(path=str(tmp_path / "one"))
    found = run(tmp_path / "two", model=on, task=Sums(), updates=1, learning_rate=1e-9)
    size = len(tiny_tokenizer())
    assert isinstance(found.codec, TextCodec)
    assert found.codec.target.backspace == size
    before, after = logits(first.policy.model), logits(found.policy.model)
    torch.testing.assert_close(after[..., :size], before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after[..., size], before.mean(-1), atol=1e-5, rtol=1e-4)


def test_adapters_of_a_model_in_our_own_letters(tmp_path):
    # Its table gets a row in the midst, and again each time that it is loaded.
    run(tmp_path / "base", method=MLE(), model=CAUSAL)
    model = PretrainedSettings(path=str(tmp_path / "base"), lora=2)
    found = run(tmp_path / "one", model=model, learning_rate=0.05)
    policy, codec = load_policy(tmp_path / "one", type(CODEC))
    assert codec == CODEC.with_backspace()
    torch.testing.assert_close(scores(policy), scores(found.policy))
    assert policy.config.pad_token_id == codec.target.pad


def test_tiny_models_given_as_objects(tmp_path):
    arguments = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none")
    for kind in ("gpt2", "llama"):
        model = tiny_model(kind)
        rows = model.config.vocab_size
        found = Trainer(model, Erasing(), arguments, CODEC, DATA.train, DATA.dev, task=TASK)
        assert found.processing_class == CODEC.with_backspace()
        assert model.config.vocab_size == rows + 1
        assert model.config.pad_token_id == CODEC.with_backspace().target.pad


@pytest.mark.parametrize("dev", [DATA.dev, None])
def test_models_that_know_distances_alone_are_refused(tmp_path, dev):
    arguments = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match=r"^T5ForConditionalGeneration cannot withdraw tokens: it"):
        Trainer(tiny_model("t5"), Erasing(), arguments, CODEC, DATA.train, dev, task=TASK)
