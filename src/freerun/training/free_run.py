"""Free-running evaluation of a model that is being trained, in one process or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainingArguments

from freerun.data import Data, DataError, Examples
from freerun.evaluation import Decoding, Written, batches_by_length, on_device
from freerun.policy import Policy
from freerun.tasks.scored import CharacterTask


@dataclass(frozen=True)
class Outputs(CharacterTask):
    """Outputs against their references, for data that were given without a task."""

    name: ClassVar[str] = "outputs"
    summary: ClassVar[str] = "outputs against their references, as text"
    metric: ClassVar[str] = "exact_match"
    greater_is_better: ClassVar[bool] = True

    def load(self) -> Data:
        """There is nothing to load.

        Raises:
            DataError: always.
        """
        raise DataError("data were given without a task; there is none to load")


@torch.no_grad()
def free_run(
    objective: nn.Module,
    policy: Policy,
    examples: Examples,
    decoding: Decoding,
    args: TrainingArguments,
) -> tuple[Written, float]:
    """Decode all examples, each process its share.

    It goes through the wrapped objective. Every process makes as many passes, as some wrappers need
    all of them to take part.

    Args:
        objective: the `Objective`, wrapped or not.
        policy: the policy in it.
        examples: what to decode.
        decoding: how.
        args: the size of batches, and which process this is.

    Returns:
        What was written for every example, and the mean teacher-forced log loss of their target
        tokens.
    """
    work = batches_by_length(examples, args.eval_batch_size)
    found: list[tuple[list[int], Written, float, int]] = []
    for start in range(0, len(work), args.world_size):
        mine = start + args.process_index
        numbers = work[mine] if mine < len(work) else work[0]
        batch = on_device(examples.batch(numbers), policy)
        output: dict[str, Any] = objective(**batch.tensors(), decoding=decoding)
        if mine < len(work):
            written = Written.of(policy.vocabulary, batch, output["decoded"], output["planted"])
            found.append((numbers, written, float(output["teacher_forced"]), int(batch.mask.sum())))
    found = gather_object(found)
    loss = sum(part[2] for part in found) / sum(part[3] for part in found)
    return Written.joined((part[0], part[1]) for part in found), loss
