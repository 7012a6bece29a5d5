"""Batches and sources."""

import pytest
import torch

from freerun.batch import Batch, Source
from tests.helpers import tiny_batch, tiny_policy


@pytest.fixture(params=["tokens", "factors", "real"])
def batch(request):
    return tiny_batch(tiny_policy(source=request.param), targets=(2, 4, 1, 3))


def same(first, second):
    one, other = first.tensors(), second.tensors()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_lengths(batch):
    assert batch.lengths.tolist() == [2, 4, 1, 3]
    assert batch.source.lengths.tolist() == [3, 1, 4, 2]


def test_selection_keeps_all_that_belongs_to_an_example(batch):
    rows = torch.tensor([2, 0, 2])
    chosen = batch.select(rows)
    for key, value in chosen.tensors().items():
        assert torch.equal(value, batch.tensors()[key][rows])
    assert torch.equal(batch.source.select(rows).values, chosen.source.values)


def test_tensors_and_back(batch):
    assert same(Batch.from_tensors(batch.tensors()), batch)
    with pytest.raises(KeyError, match="source_mask"):
        Batch.from_tensors({"ids": batch.ids, "source": batch.source.values})


def test_inputs_are_bos_and_all_targets_but_the_last():
    source = Source(torch.zeros(2, 1).long(), torch.ones(2, 1).bool())
    target = torch.tensor([[1, 2, 3], [4, 9, 9]])
    batch = Batch(torch.arange(2), source, target, target != 9)
    assert batch.inputs(7).tolist() == [[7, 1, 2], [7, 4, 9]]
    assert batch.target_tokens().tolist() == [1, 2, 3, 4]


def test_an_example_without_target_is_refused(batch):
    mask = batch.mask.clone()
    mask[1] = mask[3] = False
    empty = Batch(batch.ids, batch.source, batch.target, mask)
    with pytest.raises(ValueError, match=f"^example {batch.ids[1]} has no target tokens to learn$"):
        empty.target_tokens()
