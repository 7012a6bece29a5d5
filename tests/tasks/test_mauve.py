"""MAUVE on features of tiny models, without a network."""

import dataclasses

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

from freerun.data import MissingExtraError
from freerun.tasks import Continuation, Spelling, load_data
from freerun.tasks.text_metrics import Mauve, reader_of
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
def task(write):
    return Continuation(write(STORY), prompt=12, length=20, whole=False)


def as_if_trained(data, path):
    """A model of our own, as freerun keeps it."""
    tiny(data.codec.target.size).save_pretrained(path)
    data.codec.save_pretrained(str(path))
    return str(path)


@pytest.mark.parametrize("states", ["mean", "last"])
def test_features_are_those_of_a_text_alone(folder, states):
    texts = [f"{'yes ' * (i % 7)}no {i}" for i in range(70)]
    reader = reader_of(folder)
    found = reader.features(texts, states)
    for text, row in list(zip(texts, found, strict=True))[::9]:
        with torch.no_grad():
            tokens = torch.tensor([reader.encode(text)])
            hidden = reader.model.base_model(tokens).last_hidden_state[0]
        expected = hidden.mean(0) if states == "mean" else hidden[-1]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)


def test_equal_texts_are_one_and_others_less(folder, capfd):
    mauve = Mauve(folder, "mean")
    texts = [f"Question: {i} and {i}?" for i in range(60)]
    others = [f"{chr(97 + i % 26)} {'no ' * (i % 5)}" for i in range(60)]
    assert mauve.score(texts, texts) == pytest.approx(1.0, abs=1e-3)
    assert mauve.score(others, texts) < 0.5
    assert mauve.score(others, texts) == mauve.score(others, texts)
    assert 0 < mauve.score(["no"] * 12, ["no"] * 12) <= 1
    assert capfd.readouterr().err == ""


def test_the_task_reports_mauve_on_features_of_its_own_model(task, tmp_path):
    data = task.load()
    own = as_if_trained(data, tmp_path / "own")
    with_mauve = dataclasses.replace(task, features=own)
    references = list(data.test.references)
    right = with_mauve.score(data.codec, references, data.test)
    assert right["mauve"] == pytest.approx(1.0, abs=1e-3)
    assert list(right) == ["ms_jaccard", "entropy", "diversity", "repetition", "mauve"]
    wrong = [[5] * 20 for _ in references]
    assert with_mauve.score(data.codec, wrong, data.test)["mauve"] < 0.9
    signature = with_mauve.signatures()["mauve"]
    assert signature.startswith(f"MAUVE|features:{own}, mean of states|mauve-text:")
    assert task.signatures() == {}
    assert "mauve" in with_mauve.majority(with_mauve.load())


def test_mauve_is_of_texts_with_their_prompts(task, folder, monkeypatch):
    task = dataclasses.replace(task, features=folder)
    given = []
    monkeypatch.setattr(Mauve, "score", lambda self, *sides: given.append(sides) or 0.5)
    for settings, data in (
        ({}, task.load()),
        ({"tokens": "bpe", "size": 300}, None),
        ({"prompt": 4}, load_data(dataclasses.replace(task, prompt=4), tokenizer=byte_tokenizer())),
    ):
        other = dataclasses.replace(task, **settings)
        data = data or other.load()
        references = list(data.test.references)
        assert other.score(data.codec, references, data.test)["mauve"] == 0.5
        written, wanted = given.pop()
        assert written == wanted
        plain = STORY.replace("\n\n", "\n")
        assert len(wanted) == len(references)
        assert all(len(text) > 12 and text.strip() in plain for text in wanted)


def test_a_model_that_cannot_read_texts_is_refused(task, tmp_path, refuses):
    missing = tmp_path / "nothing"
    missing.mkdir()
    message = f"{missing}: there is no config.json in it; name the folder of a causal model"
    refuses(message, dataclasses.replace(task, features=str(missing)).load)
    refuses(message, dataclasses.replace(task, features=str(missing)).texts)
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 9}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    other = tmp_path / "other"
    BartForConditionalGeneration(BartConfig(**sizes, **heads)).save_pretrained(other)
    message = f"{other}: it is an encoder-decoder; MAUVE needs a causal model"
    refuses(message, dataclasses.replace(task, features=str(other)).load)
    spelling = tmp_path / "spelling"
    tiny(99).save_pretrained(spelling)
    Spelling(train_size=9, dev_size=2, test_size=2).load().codec.save_pretrained(str(spelling))
    message = f"{spelling}: it reads no running text"
    refuses(message, dataclasses.replace(task, features=str(spelling)).load)


def test_a_text_over_the_positions_is_refused(task, tmp_path, refuses):
    data = task.load()
    own = tmp_path / "short"
    tiny(data.codec.target.size, positions=20).save_pretrained(own)
    data.codec.save_pretrained(str(own))
    message = f"{own}: a text has 32 tokens, but the model has 20 positions"
    refuses(message, Mauve(str(own), "mean").score, [STORY[:32]] * 2, [STORY[:9]] * 2)
    message = "MAUVE compares distributions of texts: it needs two outputs at least"
    refuses(message, Mauve(str(own), "mean").score, ["a"], ["a"])


def test_a_missing_library_is_named_before_anything_is_read(task, missing):
    missing("mauve")
    with pytest.raises(MissingExtraError) as caught:
        dataclasses.replace(task, features="anywhere", data="nowhere.txt").load()
    message = "MAUVE needs mauve, which is missing: pip install freerun[text]"
    assert str(caught.value) == message
