"""A simulated GPU: its tensors compute on the CPU, and refuse to be mixed with those of the CPU.

It finds what fails on every GPU and never on a CPU: indices, masks and random numbers that were
made on another device than the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
COPIES = {"_to_copy", "copy_", "_pack_padded_sequence"}
"""What may read tensors of two devices."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""What may be given indices on the CPU."""


class SimulatedTensor(torch.Tensor):
    """A tensor that says that it is on the GPU, around one on the CPU."""

    on_cpu: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> SimulatedTensor:
        # As a "meta" tensor, so that nothing in C++ asks for a driver.
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device="meta",
        )
        self.on_cpu = on_cpu
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with _Dispatch():
            return func(*args, **(kwargs or {}))

    @property
    def device(self) -> torch.device:
        return DEVICE

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = SimulatedTensor(self.on_cpu.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    def tolist(self) -> Any:
        return self.on_cpu.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=DEVICE)

    def data_ptr(self) -> int:
        return self.on_cpu.data_ptr()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class _Dispatch(TorchDispatchMode):
    def __enter__(self):
        # Otherwise torch.tensor(…, device=…) moves what it made where no mode can see it.
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self.before)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[1]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [t for t in tensors if isinstance(t, SimulatedTensor)]
        if ours and name not in COPIES:
            _check_devices(func, name, args, tensors)
        simulated = bool(ours)
        if kwargs.get("device") is not None:
            simulated = kwargs["device"].type in ("cuda", "meta")
            kwargs["device"] = torch.device("cpu")
        elif name == "copy_":
            simulated = isinstance(args[0], SimulatedTensor)
        result = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        if not simulated:
            return result
        if torch.Tag.inplace_view in func.tags:
            with torch._C._DisableTorchDispatch():
                func(*args, **kwargs)
        if name == "_pack_padded_sequence":  # the sizes of batches stay on the CPU
            return SimulatedTensor(result[0]), result[1]
        known = {id(t.on_cpu): t for t in ours}
        return tree_map(lambda leaf: _wrap(leaf, known), result)


def _check_devices(func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
    allowed = {id(leaf) for leaf in tree_leaves(args[1])} if name in INDEXING else set()
    for tensor in tensors:
        if not isinstance(tensor, SimulatedTensor) and tensor.dim() and id(tensor) not in allowed:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    if any(isinstance(arg, torch.Generator) for arg in args):
        raise RuntimeError(f"{func}: expected a 'cuda' device type for generator")


def _unwrap(leaf: Any) -> Any:
    return leaf.on_cpu if isinstance(leaf, SimulatedTensor) else leaf


def _wrap(leaf: Any, known: dict[int, SimulatedTensor]) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return known[id(leaf)] if id(leaf) in known else SimulatedTensor(leaf)


@contextmanager
def simulate_cuda() -> Iterator[torch.device]:
    """Let tensors be made on, and moved to, the simulated GPU."""
    with pytest.MonkeyPatch.context() as patch, _Dispatch():
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        # A module that moves exchanges its parameters, so that tied ones stay tied.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        yield DEVICE
