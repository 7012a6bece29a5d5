"""The stream of examples."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from freerun.batch import Batch
from freerun.training.stream import Order, Stream, join
from tests.training.tiny_task import Strings


def test_every_epoch_meets_every_example_once_in_an_order_of_its_own():
    items = list(Order(examples=7, items=21, seed=0))
    epochs = [items[start : start + 7] for start in (0, 7, 14)]
    for epoch, found in enumerate(epochs):
        assert sorted(found) == [epoch * 7 + i for i in range(7)]
    orders = {tuple(item % 7 for item in found) for found in epochs}
    assert len(orders) == 3


@pytest.mark.parametrize(("examples", "items"), [(5, 3), (5, 5), (5, 13), (1, 4)])
def test_there_are_as_many_items_as_asked_for(examples, items):
    order = Order(examples, items, seed=1)
    longer = Order(examples, 1000, seed=1)
    assert len(order) == items
    assert list(order) == list(islice(longer, items))


def test_the_order_is_the_seeds():
    assert list(Order(50, 50, seed=1)) == list(Order(50, 50, seed=1))
    assert list(Order(50, 50, seed=1)) != list(Order(50, 50, seed=2))


def test_an_endless_order_costs_nothing_before_it_is_run():
    assert len(list(islice(Order(1000, 10**12, seed=0), 5))) == 5


def test_items_name_example_and_epoch():
    examples = Strings(((0,), (1, 2), (3, 3, 3)), 4, [])
    tensors = Stream(examples).__getitems__([2, 0])
    expected = examples.batch([2, 0]).tensors()
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())
    assert examples.epochs[0] == 0
    Stream(examples).__getitems__([7, 8])
    assert examples.epochs[-1] == 2


def test_a_batch_may_straddle_epochs():
    examples = Strings(((0,), (1, 2), (3, 3, 3)), 4, [])
    # The rest of epoch 0, all of epoch 1, the beginning of epoch 2.
    batch = Batch.from_tensors(Stream(examples).__getitems__([0, 4, 3, 5, 6]))
    assert examples.epochs == [0, 1, 2]
    assert batch.ids.tolist() == [0, 1, 0, 2, 0]
    assert batch.lengths.tolist() == [2, 3, 2, 4, 2]
    assert batch.source.lengths.tolist() == [1, 2, 1, 3, 1]
    rows = [row[mask].tolist() for row, mask in zip(batch.target, batch.mask, strict=True)]
    assert rows == [[0, 4], [2, 1, 4], [0, 4], [3, 3, 3, 4], [0, 4]]
    assert batch.target.shape == (5, 4)


def test_joined_features_keep_their_type():
    parts = [
        {"ids": torch.tensor([1]), "source": torch.ones(1, 2, 3)},
        {"ids": torch.tensor([2]), "source": torch.full((1, 1, 3), 2.0)},
    ]
    joined = join(parts)
    assert joined["ids"].tolist() == [1, 2]
    assert joined["source"].dtype == torch.float32
    assert joined["source"][:, :, 0].tolist() == [[1, 1], [2, 0]]


def test_a_single_item_is_a_batch_of_one():
    stream = Stream(Strings(((0,), (1, 2)), 4, []))
    assert len(stream) == 2
    assert stream[3]["ids"].tolist() == [1]
