"""Base classes of sequence models, as methods, roll-in, roll-out and decoding use them.

A *cell* is one decoding position of one sentence. Cell c of a row reads input c (cell 0 reads bos)
and scores the token that is written there. A *state* summarizes the inputs that a row has read.
`freerun.testing` has a test suite for policies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from freerun.batch import Source
from freerun.chunks import (
    MapScores,
    Projection,
    SumLoss,
    map_in_chunks,
    split_chunks,
    sum_in_chunks,
)
from freerun.vocabulary import Vocabulary

TokenChooser = Callable[[Float[Tensor, "k a"], Int[Tensor, "k"]], Int[Tensor, "k"]]
"""A function from scores, and the numbers of the rows they belong to, to tokens."""


class State(ABC):
    """The state of each row of a batch after the inputs it has read.

    A state is never changed: the same one can be continued several times, and its rows keep their
    gradients through `select`.
    """

    @abstractmethod
    def select(self, rows: Int[Tensor, "n"]) -> State:
        """Return the state whose row i is row `rows[i]` of this one: pick, repeat or reorder."""


class Trace(ABC):
    """Rows of inputs that were read in one pass. Scores are computed on demand."""

    @abstractmethod
    def logits(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n a"]:
        """Return the scores at the cells that are true, row by row."""

    @abstractmethod
    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> State:
        """Return the states that the scores at (row, cell) come from: after inputs 0 … cell."""

    def hidden(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n h"]:
        """Return the hidden states that `logits` projects, as `Policy.advance` returns them.

        Raises:
            ValueError: if the policy has no hidden states.
        """
        raise ValueError(f"{type(self).__name__} has no hidden states; override hidden")

    def logits_in_chunks(
        self, cells: Bool[Tensor, "b t"]
    ) -> Iterator[tuple[slice, Float[Tensor, "k a"]]]:
        """Yield the scores at the cells that are true, some cells at a time, and which these are.

        Args:
            cells: true at the cells, at least one.
        """
        scores = self.logits(cells)
        yield slice(len(scores)), scores

    def sum_loss(
        self, cells: Bool[Tensor, "b t"], loss: SumLoss, *more: Shaped[Tensor, "n ..."]
    ) -> Float[Tensor, ""]:
        """Compute `loss(logits(cells), *more)`, a sum over the cells that are true.

        Traces that project hidden states hold the scores of a few cells at a time.

        Args:
            cells: true at the cells.
            loss: a function of the scores of any of these cells, and of `more` of the same cells.
            more: what else the loss needs of each cell, such as its target; gets no gradient.
        """
        return loss(self.logits(cells), *more)

    def map_scores(
        self, cells: Bool[Tensor, "b t"], function: MapScores, *more: Shaped[Tensor, "n ..."]
    ) -> Shaped[Tensor, "n *out"]:
        """Compute `function(logits(cells), *more)`, a few numbers for each cell that is true.

        Traces that project hidden states hold the scores of a few cells at a time.

        Args:
            cells: true at the cells.
            function: a function of the scores of any of these cells, and of `more` of the same
                cells, which treats each cell alone.
            more: what else the function needs of each cell; gets no gradient.
        """
        return function(self.logits(cells), *more)

    def some_logits(
        self, cells: Bool[Tensor, "b t"], numbers: Int[Tensor, "k"]
    ) -> Float[Tensor, "k a"]:
        """Return some rows of `logits(cells)`, and compute no others.

        Args:
            cells: true at the cells.
            numbers: the numbers of the rows, which increase.
        """
        chosen = cells.new_zeros(cells.numel()).index_fill(0, numbers, True)
        return self.logits(torch.zeros_like(cells).masked_scatter(cells, chosen))

    def prompt_hidden(self) -> tuple[Float[Tensor, "b p h"], Bool[Tensor, "b p"]] | None:
        """Return the hidden states of what was read before cell 0, and a mask that is true on them.

        None if cell 0 is the first that the decoder reads, as in an encoder-decoder.
        """
        return None

    def max_forks(self, length: int) -> int | None:
        """Return how many forks fit into memory at a time, if each reads `length` more tokens.

        None if forks take so little memory that there is no need to bound them.
        """
        return None


class ProjectedTrace(Trace):
    """A trace whose scores are a projection of its hidden states.

    Attributes:
        project: from hidden states to scores; treats each row alone.
        actions: the number of scores.
    """

    project: Projection
    actions: int

    def logits(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n a"]:
        """Return the scores at the cells that are true, row by row."""
        return self.project(self.hidden(cells))

    def logits_in_chunks(
        self, cells: Bool[Tensor, "b t"]
    ) -> Iterator[tuple[slice, Float[Tensor, "k a"]]]:
        """Yield scores, some cells at a time; see `Trace.logits_in_chunks`."""
        hidden = self.hidden(cells)
        for chunk in split_chunks(len(hidden), self.actions):
            yield chunk, self.project(hidden[chunk])

    def sum_loss(
        self, cells: Bool[Tensor, "b t"], loss: SumLoss, *more: Shaped[Tensor, "n ..."]
    ) -> Float[Tensor, ""]:
        """Compute a sum over cells; see `Trace.sum_loss`."""
        return sum_in_chunks(loss, self.project, self.hidden(cells), *more, width=self.actions)

    def map_scores(
        self, cells: Bool[Tensor, "b t"], function: MapScores, *more: Shaped[Tensor, "n ..."]
    ) -> Shaped[Tensor, "n *out"]:
        """Compute a few numbers for each cell; see `Trace.map_scores`."""
        return map_in_chunks(function, self.project, self.hidden(cells), *more, width=self.actions)


class Writer(ABC):
    """Rows that write tokens together, updated in place, without gradients and dropout."""

    @abstractmethod
    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""

    @abstractmethod
    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChooser | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token per row and return the next.

        Args:
            inputs: the tokens to read.
            choose: the choice of the next tokens; by default the token with the largest score, the
                first in case of ties. It may be called several times, with some rows each.
        """

    @abstractmethod
    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""


class StepWriter(Writer):
    """A writer for any policy, through `Policy.step`."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        self.state = state.select(rows)

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChooser | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token per row and return the next."""
        scores, self.state = self.policy.step(self.state, inputs)
        if choose is None:
            return scores.argmax(-1)
        return choose(scores, torch.arange(len(inputs), device=inputs.device))

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.state = self.state.select(rows)


class Eraser(ABC):
    """Rows that write and withdraw tokens, updated in place, without gradients and dropout."""

    @abstractmethod
    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read a token or withdraw the last one in each row, and return the scores of the next.

        Args:
            tokens: the token that each row reads; the first call reads bos in every row.
            withdraw: the rows that withdraw their last token instead. A row without tokens does not
                change.
        """

    @abstractmethod
    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""


class Policy(nn.Module, ABC):
    """A sequence model as a policy: it scores the next token, given the tokens written so far.

    Subclasses must set `vocabulary` and define `limit`, `start`, `step`, `force` and `embed`;
    everything else has a default. Inputs are tokens or embeddings of tokens (see `embed`).

    Attributes:
        vocabulary: the actions, and which tokens are special.
        reads_trees: whether `force` takes `parents`; only methods with backspaces need it.
        can_withdraw: whether `eraser` returns one; needed to decode with backspaces.
        max_positions: the maximum number of positions of a row; None if unbounded.
        max_source_length: the maximum number of tokens of a source, for a model with an encoder;
            None if unbounded.
    """

    vocabulary: Vocabulary
    reads_trees: bool = False
    can_withdraw: bool = False
    max_positions: int | None = None
    max_source_length: int | None = None

    @abstractmethod
    def limit(self, source: Source) -> Int[Tensor, "b"]:
        """Return the maximum number of tokens that each row may write, eos included.

        It is the exact number if the vocabulary has no eos.
        """

    @abstractmethod
    def start(self, source: Source) -> State:
        """Return the state of every sentence before bos is read."""

    @abstractmethod
    def step(
        self, state: State, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n a"], State]:
        """Read one input per row; return the scores of the next token and the new state."""

    @abstractmethod
    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> Trace:
        """Read whole rows of inputs, in one pass if the model can.

        Args:
            source: the sources of the rows.
            inputs: the input of each cell.
            parents: makes each row a tree of prefixes: input i continues input `parents[b, i]` < i
                of its row, -1 being the start. By default each input continues the one before.

        Raises:
            ValueError: if there are `parents` and `reads_trees` is false.
        """

    def force_outputs(
        self, source: Source, rows: Int[Tensor, "n"], inputs: Int[Tensor, "n t"]
    ) -> Trace:
        """Read rows of inputs as `force` does, of which row i follows source `rows[i]`.

        The default copies a source for each row; override this method to read each source once.
        The trace is for scores, hidden states and forks.

        Args:
            source: the sources.
            rows: the source of each row.
            inputs: the input of each cell.
        """
        return self.force(source.select(rows), inputs)

    @abstractmethod
    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """Return embeddings of tokens, or of mixtures of tokens, given a weight per action."""

    def advance(
        self, state: State, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], State]:
        """Read one input per row as `step` does; return hidden states instead of scores.

        Contrastive search compares hidden states. `step` is `advance`, then `project`.

        Raises:
            ValueError: if the policy has no hidden states.
        """
        raise ValueError(
            f"{type(self).__name__} has no hidden states; override advance and project"
        )

    def project(self, hidden: Float[Tensor, "*rows h"]) -> Float[Tensor, "*rows a"]:
        """Return the scores of the actions from hidden states.

        Raises:
            ValueError: if the policy has no hidden states.
        """
        raise ValueError(
            f"{type(self).__name__} has no hidden states; override advance and project"
        )

    @property
    def hidden_size(self) -> int:
        """The number of values of a hidden state, which `project` reads.

        Raises:
            ValueError: if the policy has no hidden states.
        """
        raise ValueError(f"{type(self).__name__} has no hidden states; override hidden_size")

    def writer(self) -> Writer:
        """Return a writer, to be used without gradients, in evaluation mode, under fixed weights.

        The default calls `step`; override this method to decode faster.
        """
        return StepWriter(self)

    def capture_steps(self, **options: Any) -> None:
        """Decode by static steps from now on: on a GPU, each is captured as a CUDA graph.

        This holds for greedy decoding, samples, roll-outs, beams and backspaces, and while weights
        are trained in place. It is faster if a step takes longer to launch than to run, as those of
        small models do. There is a graph for each shape of the buffers of a step.

        Args:
            options: those of `torch.compile`, such as `backend`; if there are any, steps are
                compiled too.

        Raises:
            ValueError: if steps cannot be captured, as by default.
        """
        name = type(self).__name__
        raise ValueError(f"steps of a {name} cannot be captured: override capture_steps")

    def eraser(self, source: Source) -> Eraser:
        """Return rows that write and withdraw tokens, before bos; used in evaluation mode.

        Raises:
            ValueError: if the policy cannot withdraw tokens (see `can_withdraw`).
        """
        raise ValueError(f"{type(self).__name__} cannot withdraw tokens: override eraser")

    def add_backspace(self, vocabulary: Vocabulary, limit: int | None = None) -> None:
        """Add the backspace of a vocabulary to the policy, in place.

        `freerun.models.backspace.with_backspace` calls this for methods that need one. The scores
        of all other actions must not change, and the new one should be unlikely.

        Args:
            vocabulary: the vocabulary of the policy, with a backspace.
            limit: the maximum number of actions of an output; by default it does not change.

        Raises:
            ValueError: if the policy cannot have one, as by default.
        """
        name = type(self).__name__
        raise ValueError(f"a {name} cannot be given a backspace; make it with one")

    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """Return how many of `max_positions` each source takes before the input of cell 0.

        Zeros by default, as in a model with an encoder.
        """
        return torch.zeros_like(source.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the first parameter; the CPU if there is none."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode inside the block, and restore every submodule's mode.

    Calling `module.train()` afterwards would also enable dropout in submodules that were in
    evaluation mode before.
    """
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
