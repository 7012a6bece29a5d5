"""Examples in batches, to be decoded."""

from __future__ import annotations

from freerun.batch import Batch
from freerun.policy import Policy
from freerun.tasks.base import Examples


def batches_by_length(examples: Examples, batch_size: int) -> list[list[int]]:
    """The numbers of all examples in batches of similar length: fewer steps to decode them all."""
    lengths = [len(reference) for reference in examples.references]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def on_device(batch: Batch, policy: Policy) -> Batch:
    """The batch where the policy is."""
    device = getattr(policy, "device", batch.ids.device)
    return Batch.of({name: value.to(device) for name, value in batch.tensors().items()})
