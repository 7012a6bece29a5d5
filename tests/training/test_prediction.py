"""Predictions: texts, log-probabilities, n-best lists, and outputs that are cut off."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
)

import freerun
from freerun.cli.main import main
from freerun.data import DataError, FactorCodec, TextCodec
from freerun.evaluation import Decoding, decode
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.training.prediction import Model
from tests.helpers import raises
from tests.tasks.tiny_tokenizers import CHAT as TEMPLATE
from tests.tasks.tiny_tokenizers import byte_tokenizer, piece_tokenizer, word_tokenizer

ROWS = [{"source": "ab", "target": "A B"}, {"source": "ba", "target": "B A"}]
TEXTS = ["ab", "b", "abab", "ba", "aab"]


@pytest.fixture(scope="module")
def model():
    """A model with random weights, whose outputs have at most six tokens."""
    codec = TextCodec.learn(ROWS, [], target_tokens="symbols", source_tokens="characters")
    codec = replace(codec, limit=6)
    torch.manual_seed(4)
    return Model(RecurrentSettings(hidden_size=5, embedding_size=4).build(codec).eval(), codec)


def test_a_prediction_is_what_decoding_writes(model):
    batch = model.codec.read(TEXTS, "-").batch(range(len(TEXTS)))
    decoded = decode(model.policy, batch.source)
    found = model.predict(TEXTS, batch_size=2)
    rows = decoded.lists(model.policy.vocabulary.eos)
    assert [each.text for each in found] == [model.codec.decode(row) for row in rows]
    assert [each.tokens for each in found] == rows
    assert [each.log_prob for each in found] == pytest.approx(decoded.log_probs.tolist(), abs=1e-5)
    assert [each.score for each in found] == [each.log_prob for each in found]
    assert [each.complete for each in found] == decoded.ended.tolist()
    assert model("ab") == [{"generated_text": found[0].text, "score": found[0].score}]
    assert [row[0]["generated_text"] for row in model(TEXTS)] == [each.text for each in found]


def test_the_best_of_a_beam_come_first(model):
    rows = model.predict(TEXTS, n_best=3, beam=4, length_penalty=0.5)
    single = model.predict(TEXTS, beam=4, length_penalty=0.5)
    for row, best in zip(rows, single, strict=True):
        assert (row[0].text, row[0].complete) == (best.text, best.complete)
        assert row[0].score == pytest.approx(best.score, abs=1e-5)
        for each in row:
            length = len(each.tokens) + each.complete
            assert each.score == pytest.approx(each.log_prob / length**0.5, abs=1e-5)


def test_samples_do_not_depend_on_the_batch(model):
    settings = {"n_best": 3, "sample": True, "seed": 5}
    found = model.predict(TEXTS, batch_size=2, **settings)
    assert [[each.text for each in row] for row in found] == [
        [each.text for each in row] for row in model.predict(TEXTS, **settings)
    ]
    assert len({each.text for row in found for each in row}) > 1


def test_an_endless_source_is_predicted_as_it_comes(model):
    found = model.stream(("ab" for _ in count()), batch_size=2)
    texts = {row[0].text for row in islice(found, 5)}
    assert len(texts) == 1


def test_rows_and_their_columns(model):
    assert model.predict([{"source": "ab"}])[0] == model.predict(["ab"])[0]
    with raises(DataError, "the texts, line 1: the columns are x; known are input_ids; prompt; "
                "messages; source; text"):  # fmt: skip
        model.predict([{"x": "ab"}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_best": 2}, "n_best is 2; it needs sample, or a beam of at least 2, and beam is 1"),
        ({"n_best": 3, "beam": 2},
         "n_best is 3; it needs sample, or a beam of at least 3, and beam is 2"),
        ({"n_best": -1}, "n_best is -1; it must be at least 1"),
        ({"bean": 2}, "decoding: unknown setting 'bean'; did you mean 'beam'?"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(model, settings, message):
    with raises(SettingError, message):
        model.predict(TEXTS, **settings)


def test_a_folder_is_loaded(model, tmp_path):
    model.policy.save_pretrained(tmp_path)
    model.codec.save_pretrained(str(tmp_path))
    found = freerun.load(tmp_path)
    assert found.predict(TEXTS) == model.predict(TEXTS)
    assert found.predict(["ab"], **vars(Decoding())) == model.predict(["ab"])


def test_sentences_to_tag_are_lines_of_words():
    rows = [{"tokens": ["the", "cat"], "tags": ["O", "B-PER"]}]
    codec = FactorCodec.learn(rows)
    model = Model(RecurrentSettings(hidden_size=5, embedding_size=4).build(codec).eval(), codec)
    texts = ["the\ncat", "cat", "the\ncat\nthe"]
    found = model.predict(texts, batch_size=2)
    assert [len(each.tokens) for each in found] == [2, 1, 3]
    assert found == [model.predict([text])[0] for text in texts]
    with raises(DataError, "the texts, example 2: it is empty, or has an empty line"):
        model.predict(["the", "the\n\ncat"])
    with raises(DataError, "the texts, example 1: it is a dict; it must be text"):
        model.predict(rows)


PROMPTS = ["Question: 3 + 3?", "Answer: yes,", "it is 12", "yes", "No. Question"]
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
HALVES = {
    f"{half}_{name}": value
    for half in ("encoder", "decoder")
    for name, value in {"layers": 1, "attention_heads": 2, "ffn_dim": 24}.items()
}
MODELS = {
    "gpt2": lambda **ids: GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, initializer_range=0.6, **ids)
    ),
    "llama": lambda **ids: LlamaForCausalLM(
        LlamaConfig(hidden_size=16, initializer_range=0.6, **SMALL, **ids)
    ),
    "bart": lambda **ids: BartForConditionalGeneration(
        BartConfig(
            d_model=16, init_std=0.6, decoder_start_token_id=0, forced_eos_token_id=None,
            **HALVES, **ids,
        )
    ),
    "t5": lambda **ids: T5ForConditionalGeneration(
        T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, initializer_factor=3.0,
                 decoder_start_token_id=0, **ids)
    ),
}  # fmt: skip


def save_model(folder, kind, tokenizer):
    """Save a model with random weights and this tokenizer; return its folder."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    torch.manual_seed(1)
    made = MODELS[kind](vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "tokenizer"),
    [
        ("gpt2", byte_tokenizer()),
        ("llama", piece_tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<pad>")),
        ("llama", byte_tokenizer(bos=True, bos_token="<s>")),
        ("bart", byte_tokenizer(bos=True, eos=True, bos_token="<s>")),
        ("t5", byte_tokenizer(eos=True)),
    ],
)
def test_outputs_are_those_of_transformers(tmp_path, capsys, kind, tokenizer):
    """`pipeline` for causal models; for encoder-decoders it has none, so `generate`."""
    folder = save_model(tmp_path / "model", kind, tokenizer)
    greedy = {"max_new_tokens": 9, "do_sample": False}
    if kind in ("gpt2", "llama"):
        write = pipeline("text-generation", model=folder, device="cpu")
        rows = write(PROMPTS, return_full_text=False, **greedy)
        theirs = [row[0]["generated_text"].strip() for row in rows]
    else:
        model, theirs = AutoModelForSeq2SeqLM.from_pretrained(folder), []
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            (found,) = tokenizer.batch_decode(model.generate(**ids, **greedy), True)
            theirs.append(found.strip())
    ours = freerun.load(folder, max_new_tokens=9).predict(PROMPTS, batch_size=2)
    assert [each.text for each in ours] == theirs
    assert len(set(theirs)) > 2
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    capsys.readouterr()
    assert main(["predict", folder, str(tmp_path / "prompts.txt"), "--max-new-tokens", "9"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [text.replace("\r", "").replace("\n", "\\n") for text in theirs]


def test_answers_to_messages_are_those_of_a_pipeline(tmp_path):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    folder = save_model(tmp_path / "model", "llama", tokenizer)
    chats = [[{"role": "user", "content": text}] for text in ("1 + 2", "a b c", "yes")]
    write = pipeline("text-generation", model=folder, device="cpu")
    theirs = [write(chat, max_new_tokens=9, do_sample=False)[0] for chat in chats]
    ours = freerun.load(folder, max_new_tokens=9).predict({"messages": chat} for chat in chats)
    assert [each.text for each in ours] == [
        found["generated_text"][-1]["content"].strip() for found in theirs
    ]
