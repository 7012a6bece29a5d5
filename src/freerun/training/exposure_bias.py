"""A callback that measures exposure bias whenever a model is evaluated in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from jaxtyping import Int
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from freerun.batch import Batch
from freerun.data import Codec, Examples
from freerun.evaluation import GREEDY, Decoding, check_decoding, measure_exposure_bias
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.policy import Policy
from freerun.training.checks import check_lengths
from freerun.training.datasets import are_rows, make_codec, make_examples
from freerun.training.model_source import make_policy
from freerun.training.objective import Objective

LOGGED = "eval_exposure_bias"


class ExposureBiasCallback(TrainerCallback):
    """Logs `eval_exposure_bias` at every evaluation, so that trackers see it.

    This is the excess of `freerun.evaluation.measure_exposure_bias`: the error rate per token after
    own prefixes, minus that after the nearest correct ones; between -1 and 1. It is also among the
    metrics that `evaluate` returns. Random numbers of training are not used. Each of several
    processes measures the same examples.

    ```
    trainer.add_callback(ExposureBiasCallback(trainer))
    ```

    Args:
        trainer: freerun's Trainer, or that of transformers with a causal model or encoder-decoder
            and its tokenizer as `processing_class`.
        examples: what to measure on: rows, or Examples; by default the trainer's `eval_dataset`.
        count: the maximum number of examples, which are taken at equal distances.
        cost: the cost that defines which next tokens are errors; by default the edit distance, or
            Hamming for outputs of fixed length.
        decoding: how the model writes its own prefixes.

    Raises:
        ValueError: if the model, its tokens, the examples or the decoding cannot be used, or if
            parameters are sharded.
        DataError: if a row cannot be used.
    """

    def __init__(
        self,
        trainer: transformers.Trainer,
        examples: object = None,
        *,
        count: int = 200,
        cost: ErrorCost | None = None,
        decoding: Decoding = GREEDY,
    ) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; it must be at least 1")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ValueError("exposure bias cannot be measured where parameters are sharded")
        name = "eval_dataset" if examples is None else "examples"
        data: Any = trainer.eval_dataset if examples is None else examples
        self.trainer, self.cost, self.decoding = trainer, cost, decoding
        if are_rows(data, name):
            data = [data[number] for number in _spread(len(data), count)]
        self.policy, codec = _find_policy(trainer, data)
        encoded = make_examples(data, codec, name)
        self.examples: Examples = _Subset(encoded, _spread(len(encoded), count))
        check_lengths(self.policy, self.examples, name)
        check_decoding(self.policy, self.examples, decoding)
        # An error here is one before training.
        self._measure(_Subset(encoded, _spread(len(encoded), 1)))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Measure, unless something other than the evaluation data was evaluated."""
        if metrics is None or not any(name.startswith("eval_") for name in metrics):
            return
        excess = self._measure(self.examples)
        metrics[LOGGED] = excess
        # The metrics are logged before callbacks are called.
        self.trainer.log({LOGGED: excess})

    def _measure(self, examples: Examples) -> float:
        with self.trainer.accelerator.autocast():
            found = measure_exposure_bias(
                self.policy,
                examples,
                cost=self.cost,
                decoding=self.decoding,
                batch_size=self.trainer.args.eval_batch_size,
                draws=1,  # only the estimate is logged
            )
        return found.excess.value


def _find_policy(trainer: transformers.Trainer, data: object) -> tuple[Policy, Codec]:
    """Return the policy of a trainer and its codec, or make them of a model and a tokenizer."""
    model: Any = trainer.model
    processing: Any = trainer.processing_class
    if isinstance(model, Objective):
        return model.model, processing
    if not isinstance(processing, Codec | transformers.PreTrainedTokenizerBase):
        raise ValueError("processing_class of the trainer is missing: the tokenizer of the model")
    codec = processing
    if not isinstance(codec, Codec):
        codec = make_codec(codec, model, {"examples": data})
    return make_policy(model, codec), codec


def _spread(total: int, count: int) -> list[int]:
    """Return the numbers of at most `count` of `total` examples, at equal distances."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


@dataclass(frozen=True, eq=False)
class _Subset:
    """Some of the examples, which keep their ids."""

    examples: Examples
    numbers: Sequence[int]

    @property
    def references(self) -> Sequence[Sequence[int]]:
        references = self.examples.references
        return [references[number] for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, numbers: Sequence[int] | Int[Tensor, "b"], epoch: int = 0) -> Batch:
        chosen = torch.as_tensor(self.numbers)[torch.as_tensor(numbers)]
        return self.examples.batch(chosen, epoch)
