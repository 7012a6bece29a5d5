"""LSTM layers that run under autocast on every processor."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

_LOGGER = logging.getLogger(__name__)

Inputs = Tensor | PackedSequence


class LSTM(nn.LSTM):
    """`torch.nn.LSTM`, which leaves autocast on CPUs that have no LSTM in its dtype.

    Autocast casts what an LSTM reads to its dtype without asking whether oneDNN has a kernel for
    it: on x86 without AVX-512, `torch.nn.LSTM` raises RuntimeError under bfloat16. There, this
    layer computes in the dtype of its weights, as GRU layers do on every CPU.
    """

    def forward(  # type: ignore[override]
        self, inputs: Inputs, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Inputs, tuple[Tensor, Tensor]]:
        """Outputs and last states, see `torch.nn.LSTM`."""
        weight = self.weight_ih_l0
        if weight.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(inputs, hx)
        if has_lstm_kernel(torch.get_autocast_dtype("cpu")):
            return super().forward(inputs, hx)
        with torch.autocast("cpu", enabled=False):
            states = None if hx is None else (hx[0].to(weight.dtype), hx[1].to(weight.dtype))
            return super().forward(inputs.to(weight.dtype), states)


@cache
def has_lstm_kernel(dtype: torch.dtype) -> bool:
    """Whether this CPU trains an LSTM under autocast to `dtype`; logs a warning if not.

    This is found by trying, once per process: which instructions a kernel needs differs between
    versions of oneDNN.
    """
    # Zeros, as random weights would change the initial weights that are drawn afterwards.
    size = 2
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", dtype):
        shapes = ((4 * size, size), (4 * size, size), (4 * size,), (4 * size,))
        weights = [torch.zeros(shape, requires_grad=True) for shape in shapes]
        inputs, state = torch.zeros(1, 1, size), torch.zeros(1, 1, size)
        try:
            states = (state, state)
            found = torch.lstm(inputs, states, weights, True, 1, 0.0, True, False, True)
            torch.autograd.grad(found[0].sum(), weights)
        except RuntimeError:
            _LOGGER.warning(
                "This CPU has no LSTM kernel for %s: LSTM layers compute in single precision.",
                str(dtype).removeprefix("torch."),
            )
            return False
    return True
