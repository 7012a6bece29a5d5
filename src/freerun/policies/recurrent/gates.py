"""Recurrent layers in place: the same gates, with as little besides their products as can be."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from freerun.policies.recurrent.buffers import Buffers


def tanh_of_half_(doubled: Tensor) -> Tensor:
    """tanh(x/2) in place, as 2σ(x) - 1: on CPUs a fraction of the time of tanh.

    Weights are doubled beforehand where this is used, which is exact.
    """
    return doubled.sigmoid_().mul_(2).sub_(1)


class Gates:
    """A layer of GRU or LSTM, given what it reads already multiplied by its weights.

    Attributes:
        read: the weights of what is read, transposed; those under a tanh are doubled.
        bias: the biases that may be added to it.
        carry: the weights of the hidden state, likewise.
    """

    def __init__(self, weights: list[Tensor], dtype: torch.dtype, buffers: Buffers) -> None:
        read, carry, read_bias, carry_bias = (weight.to(dtype) for weight in weights)
        self.size = carry.shape[1]
        self.buffers = buffers
        twice = torch.ones(len(read), dtype=dtype, device=read.device)
        twice[2 * self.size : 3 * self.size] = 2  # the new value, in both GRU and LSTM
        self.read, self.carry = (read * twice[:, None]).T, (carry * twice[:, None]).T
        self._biases(read_bias * twice, carry_bias * twice)

    def _biases(self, read: Float[Tensor, "g"], carry: Float[Tensor, "g"]) -> None:
        self.bias = read + carry

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """One step, which overwrites all that it is given.

        Args:
            gates: what is read by `read`, and `bias`.
            state: the hidden state [n, h], and the cell state of an LSTM.
            carried: the hidden state by `carry`, where it is known already.
        """
        raise NotImplementedError


class GruGates(Gates):
    """Cho et al. 2014, arXiv 1406.1078, with the reset gate behind the product, as in torch."""

    def _biases(self, read: Float[Tensor, "g"], carry: Float[Tensor, "g"]) -> None:
        both = 2 * self.size
        self.bias, self.inside = read.clone(), carry[both:]
        self.bias[:both] += carry[:both]

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """(1 - z)·n + z·h becomes h; n = tanh(W·x + r·(U·h + b)), r and z sigmoids of the like."""
        (hidden,), size = state, self.size
        both, new = gates[:, : 2 * size], gates[:, 2 * size :]
        if carried is None:
            both.addmm_(hidden, self.carry[:, : 2 * size])
            reset = self.buffers.get("reset", len(hidden), size)
            torch.addmm(self.inside, hidden, self.carry[:, 2 * size :], out=reset)
        else:
            both.add_(carried[:, : 2 * size])
            reset = carried[:, 2 * size :].add_(self.inside)
        both.sigmoid_()
        tanh_of_half_(new.addcmul_(both[:, :size], reset))
        torch.lerp(new, hidden, both[:, size:], out=hidden)


class LstmGates(Gates):
    """Hochreiter and Schmidhuber 1997, with forget gates and without peepholes, as in torch."""

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """f·c + i·g becomes c, then o·tanh(c) h; i, f, o sigmoids, g a tanh of W·x + U·h + b."""
        hidden, cell = state
        gates.addmm_(hidden, self.carry) if carried is None else gates.add_(carried)
        enter, forget, new, leave = gates.sigmoid_().chunk(4, 1)
        new.mul_(2).sub_(1)
        cell.mul_(forget).addcmul_(enter, new)
        torch.mul(cell, 2, out=hidden)
        tanh_of_half_(hidden).mul_(leave)


GATES: dict[str, type[Gates]] = {"gru": GruGates, "lstm": LstmGates}
