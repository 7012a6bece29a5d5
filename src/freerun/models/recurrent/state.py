"""States and traces of recurrent policies, and trees of prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.chunks import Projection
from freerun.models.recurrent.attention import AttentionMemory
from freerun.models.recurrent.layers import Layered
from freerun.policy import ProjectedTrace, State


@dataclass(frozen=True)
class RecurrentState(State):
    """The states of n rows.

    Attributes:
        hidden: the hidden states of every layer, [n, h] each.
        cell: the cell states of every layer of an LSTM; empty for a GRU.
        feed: with input feeding, the last attentional output.
        position: the cell that comes next.
        memory: what attention looks at, if there is any.
    """

    hidden: Layered
    cell: Layered
    feed: Float[Tensor, "n h"] | None
    position: Int[Tensor, "n"]
    memory: AttentionMemory | None

    def select(self, rows: Int[Tensor, "n"]) -> RecurrentState:
        """Return the states of `rows`: pick, repeat or reorder."""
        return RecurrentState(
            tuple(layer[rows] for layer in self.hidden),
            tuple(layer[rows] for layer in self.cell),
            None if self.feed is None else self.feed[rows],
            self.position[rows],
            None if self.memory is None else self.memory.select(rows),
        )

    @property
    def parts(self) -> list[Float[Tensor, "n h"]]:
        """What changes from token to token: hidden and cell states, and the last output."""
        return [*self.hidden, *self.cell, *([] if self.feed is None else [self.feed])]

    def replace_parts(
        self, parts: Sequence[Float[Tensor, "n h"]], position: Int[Tensor, "n"]
    ) -> RecurrentState:
        """Return the state with other parts, at these positions."""
        layers, cells = len(self.hidden), len(self.cell)
        return replace(
            self,
            hidden=tuple(parts[:layers]),
            cell=tuple(parts[layers : layers + cells]),
            feed=None if self.feed is None else parts[-1],
            position=position,
        )


@dataclass(frozen=True)
class RecurrentTrace(ProjectedTrace):
    """Rows that were read.

    Attributes:
        outputs: what is projected to scores: attentional outputs, or top hidden states.
        project: from outputs to scores.
        actions: the number of scores.
        states: returns the states of all cells, as rows b·t; costly for an LSTM (see
            `RecurrentDecoder.find_cell_states`), and only needed to fork.
    """

    outputs: Float[Tensor, "b t h"]
    project: Projection
    actions: int
    states: Callable[[], RecurrentState]

    def hidden(self, cells: Bool[Tensor, "b t"]) -> Float[Tensor, "n h"]:
        """Return the attentional outputs that `logits` projects."""
        return self.outputs[cells]

    def fork(self, rows: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> RecurrentState:
        """Return the states after inputs 0 … cell of each row."""
        count, length = self.outputs.shape[:2]
        places = torch.arange(count * length, device=rows.device).view(count, length)
        return self.states().select(places[rows, cells])


StepFunction = Callable[[RecurrentState, Float[Tensor, "n e"]], tuple[Tensor, RecurrentState]]


def read_tree(
    step: StepFunction,
    state: RecurrentState,
    embedded: Float[Tensor, "b t e"],
    parents: Int[Tensor, "b t"],
) -> tuple[Float[Tensor, "b t h"], RecurrentState]:
    """Read trees of prefixes, all inputs of one depth together.

    Args:
        step: reads one input per row; returns outputs and states.
        state: the states before the first inputs, one per row.
        embedded: the inputs.
        parents: for each input, the one of its row that it continues; -1 for the start.

    Returns:
        The outputs of every input, and the states after each, as rows b·t.

    Raises:
        ValueError: if a parent does not come before its input.
    """
    rows, length = parents.shape
    row = torch.arange(rows, device=parents.device)[:, None]
    depths = _find_depths(parents).flatten()
    parents = (parents + row * length).flatten()
    inputs = embedded.flatten(0, 1)
    place = torch.empty_like(depths)  # the number of each input among those of its depth
    order: list[Tensor] = []
    outputs: list[Tensor] = []
    states: list[RecurrentState] = []
    for depth in range(int(depths.max()) + 1):
        here = (depths == depth).nonzero()[:, 0]
        # All parents are one level up, in the last state.
        before = states[-1].select(place[parents[here]]) if depth else state.select(here // length)
        output, after = step(before, inputs[here])
        place[here] = torch.arange(len(here), device=here.device)
        order.append(here)
        outputs.append(output)
        states.append(after)
    back = torch.cat(order).argsort()  # from the order of depths to that of inputs
    return torch.cat(outputs)[back].unflatten(0, (rows, length)), _concatenate(states).select(back)


def _find_depths(parents: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Return the depth of every input in its tree: 0 if it continues the start."""
    length = parents.shape[1]
    cells = torch.arange(length, device=parents.device)
    if bool(((parents >= cells) | (parents < -1)).any()):
        raise ValueError("parents[b, i] must be -1 or the number of an input before input i")
    depths = torch.zeros_like(parents)
    for cell in range(1, length):
        parent = parents[:, cell]
        above = depths.gather(1, parent.clamp(min=0)[:, None])[:, 0]
        depths[:, cell] = torch.where(parent < 0, 0, above + 1)
    return depths


def _concatenate(states: list[RecurrentState]) -> RecurrentState:
    """Return the rows of several states as one, in their order."""
    memory, feed = states[0].memory, states[0].feed
    if memory is not None:
        sentences = [state.memory.sentence for state in states if state.memory is not None]
        memory = replace(memory, sentence=torch.cat([s for s in sentences if s is not None]))
    if feed is not None:
        feed = torch.cat([state.feed for state in states if state.feed is not None])
    return RecurrentState(
        tuple(torch.cat(layer) for layer in zip(*(s.hidden for s in states), strict=True)),
        tuple(torch.cat(layer) for layer in zip(*(s.cell for s in states), strict=True)),
        feed,
        torch.cat([state.position for state in states]),
        memory,
    )
