"""Counter-based random numbers, without state: each is a hash of the coordinates that name it.

A coin or a sample is named by (seed, stream, step, example id, cell, …). So padding, the order of a
batch, gradient accumulation, the number of processes and resuming cannot change a run.
"""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

Coordinate = int | str | Int[Tensor, "..."]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def _wrap(value: int) -> int:
    """Wrap `value` to a signed 64-bit integer."""
    return ((value + (1 << 63)) % (1 << 64)) - (1 << 63)


def _shift(bits: Int[Tensor, "..."], by: int) -> Int[Tensor, "..."]:
    """Shift right logically: torch's own shift is arithmetic, and would copy the sign bit."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Apply the finalizer of splitmix64 (Steele, Lea, Flood 2014), a bijection of 64-bit integers.

    Products wrap around, as unsigned ones would: torch integers are two's complement.
    """
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def random_bits(*coordinates: Coordinate) -> Int[Tensor, "..."]:
    """Return 64 random bits for each element of the coordinates, which are broadcast.

    Coordinates are folded in one by one, so their order matters and (1, 2) differs from (12,).
    """
    tensors = [c for c in coordinates if isinstance(c, Tensor)]
    device = tensors[0].device if tensors else None
    bits = torch.zeros((), dtype=torch.int64, device=device)
    for coordinate in coordinates:
        if isinstance(coordinate, str):
            # Python's own hash of a string differs from process to process.
            coordinate = zlib.crc32(coordinate.encode())
        if isinstance(coordinate, Tensor):
            bits = _mix(bits + (coordinate.long() + 1) * _GOLDEN)
        else:
            # Torch and numpy refuse integers over 64 bits, where Python's own can be wrapped.
            bits = _mix(bits + _wrap((int(coordinate) + 1) * _GOLDEN))
    return bits


def uniform(*coordinates: Coordinate, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Return uniform numbers in the open interval (0, 1), one for each element of the coordinates.

    They have 23 random bits in float32 and 52 in float64. Neither 0 nor 1 is ever returned, so
    logarithms are finite.
    """
    exact, digits = (torch.float64, 52) if dtype == torch.float64 else (torch.float32, 23)
    bits = _shift(random_bits(*coordinates), 64 - digits)
    return (bits.to(exact) + 0.5) * 2.0**-digits


def gumbel(*coordinates: Coordinate, dtype: torch.dtype = torch.float32) -> Float[Tensor, "..."]:
    """Return Gumbel noise -log(-log U): the argmax of logits plus noise samples their softmax."""
    # In float64 even if float32 is wanted: from 23 bits the noise could not exceed 17, so unlikely
    # tokens of a large vocabulary would never be sampled.
    noise = -torch.log(-torch.log(uniform(*coordinates, dtype=torch.float64)))
    return noise.to(dtype)


def below(bound: int, *coordinates: Coordinate) -> Int[Tensor, "..."]:
    """Return uniform integers in [0, bound), one for each element of the coordinates."""
    return (uniform(*coordinates, dtype=torch.float64) * bound).long()


def permutation(count: int, *coordinates: Coordinate) -> Int[Tensor, "count"]:
    """Return a random permutation of 0 … count-1."""
    return random_bits(*coordinates, torch.arange(count)).argsort(stable=True)
