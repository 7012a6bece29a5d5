"""What a policy predicts under teacher forcing, which is not how it runs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from freerun.batch import Batch
from freerun.evaluate.batches import batches_by_length, on_device
from freerun.losses import log_loss
from freerun.policy import Policy
from freerun.rolling import evaluation_mode
from freerun.tasks.base import Examples


def teacher_forced_loss(policy: Policy, examples: Examples, *, batch_size: int = 256) -> float:
    """The mean log loss of a target token when every prefix is the reference.

    It says how well the policy predicts under teacher forcing, which is not how it runs; whoever
    reports it calls it by this name.
    """
    total, count = 0.0, 0
    with torch.no_grad(), evaluation_mode(policy):
        for numbers in batches_by_length(examples, batch_size):
            batch = on_device(examples.batch(numbers), policy)
            total += float(teacher_forced_total(policy, batch))
            count += int(batch.mask.sum())
    return total / count


def teacher_forced_total(policy: Policy, batch: Batch) -> Float[Tensor, ""]:
    """The log loss of a batch under teacher forcing, summed over target tokens."""
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    return log_loss(trace.logits(batch.mask), batch.target[batch.mask])
