"""What rows of a recurrent policy know, and the prefixes that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.policies.recurrent.attention import Memory
from freerun.policies.recurrent.decoder import Layered


@dataclass(frozen=True)
class RecurrentState:
    """The states of n rows.

    `hidden` and (for LSTM) `cell` hold [n, h] for every layer; `feed` is the last attentional
    output where it is fed; `position` is the cell that comes next.
    """

    hidden: Layered
    cell: Layered
    feed: Float[Tensor, "n h"] | None
    position: Int[Tensor, "n"]
    memory: Memory | None

    def select(self, rows: Int[Tensor, "n"]) -> RecurrentState:
        """The states of `rows`: pick, repeat, reorder."""
        return RecurrentState(
            tuple(layer[rows] for layer in self.hidden),
            tuple(layer[rows] for layer in self.cell),
            None if self.feed is None else self.feed[rows],
            self.position[rows],
            None if self.memory is None else self.memory.select(rows),
        )


@dataclass(frozen=True)
class RecurrentTrace:
    """Prefixes that were read: `states()` gives those of all cells, as rows b·t."""

    outputs: Float[Tensor, "b t h"]
    project: Callable[[Float[Tensor, "n h"]], Float[Tensor, "n a"]]
    states: Callable[[], RecurrentState]

    def logits(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n a"]:
        """The scores at the cells that are true, row by row."""
        return self.project(self.outputs[cells])

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> RecurrentState:
        """The states after inputs 0 … cell of each row."""
        count, length = self.outputs.shape[:2]
        places = torch.arange(count * length, device=rows.device).view(count, length)
        return self.states().select(places[rows, cells])
