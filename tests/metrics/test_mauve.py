"""MAUVE on features of tiny models, without a network."""

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from freerun.data import MissingExtraError
from freerun.metrics import (
    Metric,
    check_metrics,
    list_signatures,
    mauve,
    score,
    score_majority_guess,
)
from freerun.metrics.mauve import load_reader
from freerun.settings import SettingError
from freerun.tasks import Continuation, Spelling, load_data
from tests.tasks.tiny_tokenizers import byte_tokenizer

STORY = "\n\n".join(f"It was the {i}th of May, and {i * i} bells rang in town." for i in range(99))


def tiny(rows, positions=64):
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": positions}
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, bos_token_id=0, eos_token_id=0, **sizes))


@pytest.fixture
def folder(tmp_path):
    """A causal model with a tokenizer."""
    tokenizer = byte_tokenizer()
    tiny(len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def make_task(write):
    """A function that makes a task of running text."""

    def make(**settings):
        return Continuation(
            write(STORY), **{"prompt": 12, "length": 20, "whole": False, **settings}
        )

    return make


def as_if_trained(data, path, **settings):
    """A model of our own, as freerun keeps it."""
    tiny(data.codec.target.size, **settings).save_pretrained(path)
    data.codec.save_pretrained(str(path))
    return str(path)


@pytest.mark.parametrize("states", ["mean", "last"])
def test_features_are_those_of_a_text_alone(folder, states):
    texts = [f"{'yes ' * (i % 7)}no {i}" for i in range(70)]
    reader = load_reader(folder)
    found = reader.features(texts, states)
    for text, row in list(zip(texts, found, strict=True))[::9]:
        with torch.no_grad():
            tokens = torch.tensor([reader.encode(text)])
            hidden = reader.model.base_model(tokens).last_hidden_state[0]
        expected = hidden.mean(0) if states == "mean" else hidden[-1]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)


def test_equal_texts_are_one_and_others_less(folder, capfd):
    texts = [f"Question: {i} and {i}?" for i in range(60)]
    others = [f"{chr(97 + i % 26)} {'no ' * (i % 5)}" for i in range(60)]
    assert mauve(texts, texts, model=folder) == pytest.approx(1.0, abs=1e-3)
    assert mauve(others, texts, model=folder) < 0.5
    assert mauve(others, texts, model=folder) == mauve(others, texts, model=folder)
    assert 0 < mauve(["no"] * 12, ["no"] * 12, model=folder) <= 1
    assert capfd.readouterr().err == ""


def test_a_task_reports_mauve_on_features_of_its_own_model(make_task, tmp_path):
    data = load_data(make_task())
    own = as_if_trained(data, tmp_path / "own")
    metrics = make_task(extra_metrics=(f"mauve:model={own}",)).get_metrics()
    check_metrics(metrics, data.codec)
    right = score(metrics, data.codec, list(data.test.references), data.test)
    assert right["mauve"] == pytest.approx(1.0, abs=1e-3)
    assert list(right) == ["ms_jaccard", "entropy", "diversity", "repetition", "mauve"]
    wrong = [[5] * 20 for _ in data.test.references]
    assert score(metrics, data.codec, wrong, data.test)["mauve"] < 0.9
    signature = list_signatures(metrics, data.codec, data.test)["mauve"]
    assert signature.startswith(f"MAUVE|features:{own}, mean of states|mauve-text:")
    assert list_signatures(make_task().get_metrics(), data.codec, data.test) == {}
    assert "mauve" in score_majority_guess(metrics, data)


def test_a_model_of_our_own_reads_text_in_the_tokens_of_its_codec(make_task, tmp_path):
    data = load_data(make_task())
    reader = load_reader(as_if_trained(data, tmp_path / "own"))
    batch = data.test.batch([0])
    text = data.codec.decode([*batch.source.values[0].tolist(), *data.test.references[0]])
    expected = [*batch.source.values[0].tolist(), *data.test.references[0]]
    assert reader.encode(text) == expected


def test_passages_are_texts_with_their_prompts(make_task):
    given = []
    look = Metric("look", lambda *sides: given.append(sides) or 0.5, form="passages")
    for settings, tokenizer in (
        ({}, None),
        ({"target_tokens": "bpe:300", "prompt": 4}, None),
        ({"prompt": 4}, byte_tokenizer()),
    ):
        data = load_data(make_task(**settings), tokenizer=tokenizer)
        references = list(data.test.references)
        assert score({"look": look}, data.codec, references, data.test) == {"look": 0.5}
        written, wanted = given.pop()
        assert written == wanted
        plain = STORY.replace("\n\n", "\n")
        assert len(wanted) == len(references)
        assert all(len(text) > 12 and text.strip() in plain for text in wanted)


def test_a_model_that_cannot_read_texts_is_refused(tmp_path, refuses):
    texts = ["a", "b"]
    missing = tmp_path / "nothing"
    missing.mkdir()
    message = f"{missing}: there is no config.json in it; name the folder of a causal model"
    refuses(message, mauve, texts, texts, model=str(missing))
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    other = tmp_path / "other"
    BartForConditionalGeneration(BartConfig(**sizes, **heads)).save_pretrained(other)
    message = f"{other}: it is an encoder-decoder; MAUVE needs a causal model"
    refuses(message, mauve, texts, texts, model=str(other))
    data = load_data(Spelling(train_size=9, dev_size=2, test_size=2))
    spelling = as_if_trained(data, tmp_path / "spelling")
    message = f"{spelling}: its sources and targets differ in tokens; it reads no text"
    refuses(message, mauve, texts, texts, model=spelling)


def test_the_model_is_looked_for_before_training(make_task, tmp_path, refuses):
    folder = tmp_path / "nothing"
    folder.mkdir()
    task = make_task(extra_metrics=(f"mauve:model={folder}",))
    message = f"{folder}: there is no config.json in it; name the folder of a causal model"
    refuses(message, check_metrics, task.get_metrics(), load_data(task).codec)


def test_outputs_that_do_not_continue_their_sources_are_refused():
    task = Spelling(train_size=9, dev_size=2, test_size=2, extra_metrics=("mauve:model=x",))
    with pytest.raises(SettingError) as caught:
        check_metrics(task.get_metrics(), load_data(task).codec)
    message = "metric 'mauve': it needs outputs that continue their sources, in the same tokens"
    assert str(caught.value) == message


def test_a_text_over_the_positions_is_refused(make_task, tmp_path, refuses):
    own = as_if_trained(load_data(make_task()), tmp_path / "short", positions=20)
    message = f"{own}: a text has 32 tokens, but the model has 20 positions"
    refuses(message, mauve, [STORY[:32]] * 2, [STORY[:9]] * 2, model=own)
    message = "MAUVE compares distributions of texts: it needs two outputs at least"
    refuses(message, mauve, ["a"], ["a"], model=own)


def test_a_missing_library_is_named_before_anything_is_read(missing):
    missing("mauve")
    with pytest.raises(MissingExtraError) as caught:
        Continuation("nowhere.txt", extra_metrics=("mauve:model=anywhere",)).get_metrics()
    message = "the metric mauve needs mauve, which is missing: pip install 'freerun[text]'"
    assert str(caught.value) == message
