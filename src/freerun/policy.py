"""The one protocol that every sequence model stands behind.

A *cell* is one decoding position of one sentence. Cell c of a row reads input c (cell 0 reads bos)
and scores what is written there. A *state* is what a row knows after the inputs that it read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.vocabulary import Vocabulary


@runtime_checkable
class State(Protocol):
    """What each row of a batch knows. Rows keep their gradients through `select`."""

    def select(self, rows: Int[Tensor, "n"]) -> State:
        """The state whose row i is row `rows[i]` of this one: pick, repeat, reorder."""
        ...


@runtime_checkable
class Trace(Protocol):
    """Prefixes that were read in one pass. What is not asked for is not computed."""

    def logits(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n a"]:
        """The scores at the cells that are true, row by row."""
        ...

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> State:
        """The states from which the scores at (row, cell) came: after inputs 0 … cell."""
        ...


@runtime_checkable
class BoundedTrace(Protocol):
    """What a trace may have beside: how many of its states fit into memory."""

    def most_rows(self, length: int) -> int:
        """The most states to be forked at once, where each goes on to read `length` tokens."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A sequence model as a policy: from what was written to scores of what comes next.

    Inputs are tokens or embeddings of tokens (see `embed`), everywhere.
    """

    vocabulary: Vocabulary

    def limit(self, source: Source) -> Int[Tensor, "b"]:
        """The most tokens that each row may write, eos included; exact where there is no eos."""
        ...

    def start(self, source: Source) -> State:
        """The state of every sentence before anything was read."""
        ...

    def step(
        self, state: State, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n a"], State]:
        """Read one input a row: the scores of the next token, and the new state."""
        ...

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> Trace:
        """Read whole rows of inputs, in one pass where the model can.

        Input i of a row continues input `parents[i]` of that row, which stands before it; -1 is
        the start. Left out, each continues the one before, so that the row is one sequence; else
        it is a tree of prefixes.
        """
        ...

    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """The embeddings of tokens, or mixtures of them, one weight for each action."""
        ...


Choose = Callable[[Float[Tensor, "k a"], Int[Tensor, "k"]], Int[Tensor, "k"]]
"""From scores, and the rows that they are of, to tokens."""


@runtime_checkable
class Writer(Protocol):
    """Rows that write side by side, changed in place: no gradients, no dropout, no scores kept."""

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Row i goes on from row `rows[i]` of `state`."""
        ...

    def write(self, inputs: Int[Tensor, "n"], choose: Choose | None = None) -> Int[Tensor, "n"]:
        """Read one token a row, and give the next: what `choose` makes of its scores.

        Without `choose`, the token with the largest score, the first of those where several tie.
        """
        ...

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        ...


@runtime_checkable
class WritingPolicy(Protocol):
    """What a policy may have beside: a quicker way to write than step by step."""

    def writer(self) -> Writer:
        """A writer with the weights as they are now, and in the precision of autocast if it is on.

        Only called in evaluation mode.
        """
        ...


@runtime_checkable
class Eraser(Protocol):
    """Rows that write and withdraw side by side, changed in place: no gradients, no dropout."""

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads its token, or withdraws its last one; the scores of what comes next.

        The first call reads bos in every row. A row that withdraws where there is nothing stays as
        it is.
        """
        ...

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        ...


@runtime_checkable
class ErasingPolicy(Protocol):
    """What a policy needs beside where its vocabulary has a backspace: to withdraw tokens."""

    def eraser(self, source: Source) -> Eraser:
        """The rows of every sentence before bos. Only called in evaluation mode.

        Raises:
            ValueError: where tokens cannot be withdrawn (relative positions, sliding windows).
        """
        ...
