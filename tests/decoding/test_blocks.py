"""Work by blocks: the same as at once, and never more scores than are allowed."""

import pytest
import torch

from freerun.decoding import apply_in_blocks
from freerun.decoding import sampling as blocks


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("most", [1, 4, 8, 100])
def test_blocks_are_put_together(monkeypatch, count, most):
    monkeypatch.setattr(blocks, "_BLOCK_SCORES_CPU", most)
    scores, numbers, seen = torch.rand(count, 4), torch.arange(count), []

    def make(some, of):
        seen.append(len(some))
        return some.sum(1) + of

    assert torch.equal(apply_in_blocks(make, scores, numbers), scores.sum(1) + numbers)
    assert sum(seen) == count
    assert max(seen) <= max(1, most // 4)
