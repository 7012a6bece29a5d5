"""The shape of translation for timing SEARNN, and records of its roll-outs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from unittest import mock

import torch
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.methods import SEARNN, Clock, Method
from freerun.methods.searnn import (
    Candidates,
    KLLoss,
    MixedRollOut,
    NeighboringTokens,
    ReferenceRollIn,
    search,
)
from freerun.methods.searnn.rolls import RollOutPrecision
from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.models.recurrent.writer import RecurrentWriter
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class Shape:
    """Sentences of random words in the shape of translation, and the settings of the search."""

    batch: int = 64
    length: int = 25
    source_words: int = 32_009
    words: int = 22_822
    hidden: int = 256
    cells: int = 20
    tokens: int = 25

    def policy(self) -> RecurrentPolicy:
        """Return an untrained model."""
        words = Vocabulary.build(map(str, range(self.words - 1)), eos=True)
        config = RecurrentConfig.from_vocabulary(
            words,
            factors=(self.source_words,),
            limit=4 * self.length,
            hidden_size=self.hidden,
            embedding_size=self.hidden,
            bidirectional=True,
            attention="additive",
        )
        return RecurrentPolicy(config)

    def sentences(self, device: torch.device, seed: int = 0) -> Batch:
        """Return sources and targets with lengths around `length`; targets include eos."""
        generator = torch.Generator().manual_seed(seed)

        def rows(words: int) -> tuple[Tensor, Tensor]:
            spread = max(1, self.length // 4)
            least, most = self.length - spread, self.length + spread
            lengths = torch.randint(least, most + 1, (self.batch,), generator=generator)
            mask = torch.arange(int(lengths.max())) < lengths[:, None]
            return torch.randint(words, mask.shape, generator=generator) * mask, mask

        source, source_mask = rows(self.source_words)
        target, mask = rows(self.words - 1)
        target[torch.arange(self.batch), mask.sum(1) - 1] = self.words - 1
        batch = Batch(torch.arange(self.batch), Source(source, source_mask), target, mask)
        return Batch.from_tensors(
            {name: tensor.to(device) for name, tensor in batch.tensors().items()}
        )

    def method(self, precision: RollOutPrecision = "training") -> SEARNN:
        """Return SEARNN with the settings of Leblond et al. 2018 for translation."""
        tokens = NeighboringTokens(self.tokens, neighbors=min(10, self.tokens - 1))
        return SEARNN(
            roll_in=ReferenceRollIn(),
            roll_out=MixedRollOut(precision=precision),
            cost="bleu",
            candidates=Candidates(cells=self.cells, tokens=tokens),
            cell_loss=KLLoss(alpha=200.0),
        )

    def operations(self, source_length: float) -> float:
        """Return the multiplications and additions of one decoder step, by the equations."""
        size, both = self.hidden, 2 * self.hidden
        gru = 2 * 3 * size * (size + size)
        attention = 2 * size * size + source_length * (4 * size + 2 * both)
        combination = 2 * (both + size) * size
        return gru + attention + combination + 2 * size * self.words


@dataclass
class Seen:
    """A record of roll-outs.

    Attributes:
        rows: the number of rows in each decoder step of a roll-out.
        seconds: the time of each call of `roll_out`.
    """

    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@contextmanager
def watched(device: torch.device) -> Iterator[Seen]:
    """Record the roll-outs of SEARNN inside the block."""
    seen, inside = Seen(), []
    write, roll_out = RecurrentWriter.write, search.roll_out

    @wraps(write)
    def noted(self: RecurrentWriter, inputs: Tensor, *rest: object) -> Tensor:
        if inside:
            seen.rows.append(len(inputs))
        return write(self, inputs, *rest)

    @wraps(roll_out)
    def timed(*args: object, **kwargs: object) -> object:
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        inside.append(True)
        try:
            return roll_out(*args, **kwargs)
        finally:
            inside.pop()
            wait()
            seen.seconds.append(time.perf_counter() - start)

    with (
        mock.patch.object(RecurrentWriter, "write", noted),
        mock.patch.object(search, "roll_out", timed),
    ):
        yield seen


def idle(policy: RecurrentPolicy) -> torch.optim.Optimizer:
    """Return an optimizer with a learning rate of 0, so that all updates are alike."""
    return torch.optim.Adam(policy.parameters(), 0.0)


def updates(
    policy: RecurrentPolicy, optimizer: torch.optim.Optimizer, batches: list[Batch], method: Method
) -> Callable[[], None]:
    """Run one update on each batch."""

    def run() -> None:
        for step, batch in enumerate(batches):
            optimizer.zero_grad()
            outcome = method.loss(policy, batch, Clock(step, len(batches)))
            (outcome.total / outcome.count).backward()
            optimizer.step()

    return run


def product(
    rows: int, size: int, words: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """Return a function that computes the output projection of decoder steps, in place."""
    outputs = torch.randn(rows, size, device=device, dtype=dtype).tanh()
    weight = torch.randn(words, size, device=device, dtype=dtype)
    scores = torch.empty(rows, words, device=device, dtype=dtype)
    return lambda: torch.mm(outputs, weight.T, out=scores)


@torch.no_grad()
def floor(policy: RecurrentPolicy, rows: list[int], *, folded: bool) -> Callable[[], None]:
    """Return a function that computes the products and activations of decoder steps.

    Args:
        policy: a GRU with aligned attention.
        rows: the number of rows in each step.
        folded: leave out products that a table of tokens or positions can replace: with the
            embedding, and the half of the attention's combination that reads the source.
    """
    weights = [weight.detach() for weight in policy.decoder.weights(0)[:2]]
    combine = policy.attention.combine.weight.detach()
    output, size = policy.output.weight.detach(), policy.config.hidden_size
    if folded:
        weights, combine = weights[1:], combine[:, -size:]
    most, like = max(rows), output.new_empty
    hidden, gates, attended = like(most, size).normal_(), like(most, 3 * size), like(most, size)
    joined, scores = like(most, combine.shape[1]).normal_(), like(most, len(output))

    @torch.no_grad()
    def run() -> None:
        for count in rows:
            for weight in weights:
                torch.mm(hidden[:count], weight.T, out=gates[:count])
            gates[:count, : 2 * size].sigmoid_()
            gates[:count, 2 * size :].tanh_()
            torch.mm(joined[:count], combine.T, out=attended[:count]).tanh_()
            torch.mm(attended[:count], output.T, out=scores[:count])

    return run
