"""Words as several ids each, and rare forms that are read as unknown."""

import pytest
import torch

from freerun.data import FactorCodec
from freerun.data.factor_codec import UNKNOWN, UnknownNoise, forms


def rows_of(*sentences):
    return [{"tokens": words, "tags": ["O"] * len(words)} for words in sentences]


def learn(*sentences):
    return FactorCodec.learn(rows_of(*sentences))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("B2-Straße", ("b2-straße", "b2-", "aße", "X0-Xx")),
        ("EU", ("eu", "eu", "eu", "X")),
        ("23.07", ("23.07", "23.", ".07", "0.0")),
        ("...", ("...", "...", "...", ".")),
        ("iPhone", ("iphone", "iph", "one", "xXx")),
    ],
)
def test_forms_of_a_word(word, expected):
    assert forms(word) == expected


def test_the_most_frequent_forms_come_first():
    codec = learn(["Haus", "haus"], ["Maus", "Haus"])
    assert codec.entries == (("haus", "maus"), ("hau", "mau"), ("aus",), ("Xx", "x"))


def test_words_are_read_as_the_ids_of_their_forms():
    codec = learn(["Haus", "haus"], ["Maus", "Haus"])
    sources = codec.encode_sources([{"tokens": ["Maus", "haus", "Hausmaus!", "Maus"]}])
    assert sources.batch([0]).source.values.tolist() == [
        [[3, 3, 2, 2], [2, 2, 2, 3], [UNKNOWN, 2, UNKNOWN, UNKNOWN], [3, 3, 2, 2]]
    ]


def test_forms_that_came_once_are_told_by_their_ids():
    rows = rows_of(["Haus", "haus"], ["Maus", "Haus"])
    noise = UnknownNoise.from_examples(FactorCodec.learn(rows).encode(rows), 0.5, seed=0)
    # Behind padding and unknown, ids of forms that came once begin at 3, 3, 3 and 3.
    assert noise.first.tolist() == [3, 3, 3, 3]


def test_forms_that_came_once_are_read_as_unknown_at_the_rate():
    values = torch.tensor([[[2, 4], [3, 3], [0, 0]]]).expand(4_000, -1, -1)
    noise = UnknownNoise(0.3, torch.tensor([3, 3]), seed=0)
    mask = torch.tensor([[True, True, False]]).expand(4_000, -1)
    noisy = noise(values, mask, torch.arange(4_000), 0)
    unknown = (noisy == UNKNOWN).float().mean(0)
    expected = torch.tensor([[0, 0.3], [0.3, 0.3], [0, 0]])
    torch.testing.assert_close(unknown, expected, atol=0.03, rtol=0)
    assert torch.equal(noisy[noisy != UNKNOWN], values[noisy != UNKNOWN])
    # Every place is drawn alone: two unknowns of a word come together by chance only.
    both = (noisy[:, 1] == UNKNOWN).all(1).float().mean().item()
    assert both == pytest.approx(0.09, abs=0.02)


def test_draws_of_unknowns_change_with_the_epoch():
    values = torch.full((50, 4, 1), 2)
    noise = UnknownNoise(0.5, torch.tensor([2]), seed=0)
    mask, ids = torch.ones(50, 4, dtype=torch.bool), torch.arange(50)
    assert torch.equal(noise(values, mask, ids, 1), noise(values, mask, ids, 1))
    assert not torch.equal(noise(values, mask, ids, 1), noise(values, mask, ids, 2))
