"""Predictions: texts, log-probabilities, n-best lists, and outputs that are cut off."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice

import pytest
import torch

import freerun
from freerun.data import DataError, TextCodec
from freerun.evaluation import Decoding, decode
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.training.prediction import Model
from tests.helpers import raises

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
