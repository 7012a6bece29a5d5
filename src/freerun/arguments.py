"""Checks of the arguments of functions of tensors and numbers.

Shapes and dtypes are always checked. Values of tensors are checked only on the CPU: elsewhere a
check would wait for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_KINDS = {"float": "floating-point numbers", "int": "integers", "bool": "booleans"}


def check_shapes(**arguments: tuple[Tensor | None, str]) -> None:
    """Check the kinds of tensors, their ranks, and that sizes with the same name are equal.

    Args:
        arguments: for each argument, the tensor and its kind and sizes, as in
            `scores=(scores, "float n a"), targets=(targets, "int n")`. An argument that is None is
            not checked.

    Raises:
        ValueError: if one is wrong. The message names the argument.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, (tensor, spec) in arguments.items():
        if tensor is None:
            continue
        kind, *axes = spec.split()
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}; it must be a tensor")
        if _find_kind(tensor) != kind:
            raise ValueError(f"{name} has dtype {tensor.dtype}; it must hold {_KINDS[kind]}")
        shape = tuple(tensor.shape)
        if len(shape) != len(axes):
            raise ValueError(f"{name} has shape {shape}; it must be [{', '.join(axes)}]")
        for axis, size in zip(axes, shape, strict=True):
            known, first = sizes.setdefault(axis, (size, name))
            if size != known:
                raise ValueError(
                    f"{name} has shape {shape}; it must be [{', '.join(axes)}], where {axis} is "
                    f"{known} as in {first}"
                )


def _find_kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.is_floating_point() else "int"


def _has_values(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read, without waiting for a device.

    Under `torch.func.vmap`, `grad` or `torch.compile` they cannot.
    """
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def check_values(name: str, values: Tensor, least: int, most: int, *, what: str = "") -> None:
    """Check that integers lie in a closed interval, if they are on the CPU.

    Args:
        name: the name of the argument.
        values: the integers.
        least: the minimum.
        most: the maximum.
        what: what the maximum is, for the message.

    Raises:
        ValueError: if one does not. The message names it.
    """
    if not values.numel() or not _has_values(values):
        return
    low, high = (int(value) for value in values.aminmax())
    if low < least or high > most:
        wrong = low if low < least else high
        raise ValueError(f"{name} has {wrong}; it must be from {least} to {most}{what}")


def check_count(name: str, tensor: Tensor, flags: Tensor, what: str) -> None:
    """Check that a tensor has a row for each true value of `flags`, if these are on the CPU.

    Raises:
        ValueError: if it does not.
    """
    if not _has_values(flags):
        return
    count = int(flags.sum())
    if len(tensor) != count:
        raise ValueError(
            f"{name} has {len(tensor)} rows; it must have {count}, one for each {what}"
        )


def check_padding(name: str, mask: Tensor) -> None:
    """Check that a mask is false only at the end of a row, if it is on the CPU.

    Raises:
        ValueError: if it is not. The message names the row.
    """
    if not _has_values(mask):
        return
    wrong = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{name}: row {row} has padding before its end; padding must follow")


def check_number(
    name: str,
    value: int | float,
    least: int | float = -math.inf,
    most: int | float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Check that a number is finite, and lies in an interval.

    Args:
        name: the name of the argument.
        value: the number.
        least: the lower end of the interval.
        most: its upper end.
        above: whether the lower end itself is excluded.
        below: whether the upper end itself is excluded.

    Raises:
        ValueError: if it does not.
    """
    inside = (least < value if above else least <= value) and (
        value < most if below else value <= most
    )
    if inside and abs(value) < math.inf:
        return
    finite = "" if isinstance(value, int) else "finite and "
    if least == -math.inf and most == math.inf:
        interval = "be finite"
    elif most == math.inf:
        interval = f"be {finite}{'above' if above else 'at least'} {least:g}"
    else:
        interval = f"lie in {'(' if above else '['}{least:g}, {most:g}{')' if below else ']'}"
    raise ValueError(f"{name} is {value}; it must {interval}")
