"""Steps of decoding in buffers of constant shape, which can be captured as CUDA graphs.

A step of a small model is up to a few hundred short kernels, and launching them takes longer than
running them. A graph launches all of them at once. It always reads and writes the same addresses,
so inputs and states are copied into buffers that belong to it, and weights may be trained in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MAX_IDLE_BYTES = 2**31
"""The maximum size of buffers that are kept for later rows, except those of the last step."""

MAX_IDLE_STEPS = 64
"""The maximum number of steps that are kept for later rows. On a GPU, each graph also has memory of
its own, at least some megabytes, which no tensor shows."""

CAPTURES = ("cuda",)
"""The types of devices on which steps are captured."""

MIN_POSITIONS = 16
"""The minimum number of positions of sources in a buffer."""

Outputs = tuple[Tensor, ...]


class Step(ABC):
    """The buffers of one step, and what replays it on a GPU.

    Attributes:
        shape: the sizes of the buffers, the number of rows first.
        key: what a graph depends on besides them (see `make_key`).
    """

    def __init__(self, shape: tuple[int, ...], key: Hashable) -> None:
        self.shape, self.key = shape, key
        self.replay: Callable[[], Outputs] | None = None

    @abstractmethod
    def list_states(self) -> list[Tensor]:
        """Return the buffers of states and sources."""

    @cached_property
    def bytes(self) -> int:
        """The size of the buffers."""
        return sum(states.nbytes for states in self.list_states())

    def launch(self, function: Callable[[], Outputs], device: torch.device, count: int) -> Outputs:
        """Return the first rows of the outputs of a function, which is captured on a GPU.

        Args:
            function: the same computation at every call, on exactly these buffers and weights.
            device: the device of the buffers.
            count: the number of rows that are in use.
        """
        if device.type not in CAPTURES:
            return tuple(output[:count] for output in function())
        if self.replay is None:
            # Outputs of inference mode could not be used outside of it.
            with torch.inference_mode(False), torch.no_grad():
                self.replay = capture(function, device)
        # The next replay overwrites its outputs.
        return tuple(output[:count].clone() for output in self.replay())


StepT = TypeVar("StepT", bound=Step)


class StaticSteps(Generic[StepT]):
    """All steps of a policy, by the shapes of their buffers.

    Those whose buffers are not in use are kept for later rows.

    Args:
        function: computes the outputs of a step from a policy and buffers.
        options: options of `torch.compile`; if there are none, nothing is compiled.
    """

    def __init__(self, function: Callable[..., Outputs], options: dict[str, Any]) -> None:
        self.options, self.idle = options, list[StepT]()
        self.compute: Callable[..., Outputs] = (
            torch.compile(function, fullgraph=True, **options) if options else function
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to copy them: a copy of a policy has other weights, so without graphs."""
        return type(self), (self.options,)

    def take(self, shape: tuple[int, ...], key: Hashable, make: Callable[[], StepT]) -> StepT:
        """Return a step whose buffers are not in use, which is made if there is none."""
        found = next((s for s in self.idle if s.shape == shape and s.key == key), None)
        if found is not None:
            try:
                self.idle.remove(found)
            except ValueError:  # another thread took it meanwhile, or a finalizer forgot it
                found = None
        if found is not None:
            return found
        # Tensors that are made in inference mode could not be written outside of it later.
        with torch.inference_mode(False):
            return make()

    def release(self, step: StepT) -> None:
        """Keep the buffers of a step for later; forget the oldest others if there are too many."""
        self.idle.append(step)
        while len(self.idle) > 1 and self._is_too_large():
            self.idle.pop(0)

    def _is_too_large(self) -> bool:
        size = sum(step.bytes for step in self.idle)
        return size > MAX_IDLE_BYTES or len(self.idle) > MAX_IDLE_STEPS


def make_key(weights: Iterable[Tensor], *states: Tensor) -> tuple[Hashable, ...]:
    """Return what a graph depends on besides shapes: where weights lie, and what dtypes there are.

    Args:
        weights: one of the weights of a step for each group that moves together. On a GPU, `.to()`
            gives those of recurrent layers a new place even if all others stay.
        states: a tensor of each dtype that the buffers have.
    """
    kind = states[0].device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    places = tuple(weight.data_ptr() for weight in weights)
    return places, precision, *(state.dtype for state in states)


def capture(function: Callable[[], Outputs], device: torch.device) -> Callable[[], Outputs]:
    """Capture the kernels of a function as a CUDA graph; return a function that launches them.

    It always returns the same tensors.

    Raises:
        RuntimeError: if the kernels cannot be captured.
    """
    stream, cached = torch.cuda.Stream(device), torch.is_autocast_cache_enabled()
    stream.wait_stream(torch.cuda.current_stream(device))
    # With the cache of autocast, a graph would go on to read copies of weights made before it.
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.cuda.stream(stream):
            for _ in range(2):  # loads kernels and allocates workspaces
                function()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # On the device of the tensors, which need not be the current one, and on another stream:
        # workspaces of the warm-up belong to its stream, and those of the graph to the graph.
        other = torch.cuda.Stream(device)
        # The outer block restores the current stream also if the capture cannot be ended.
        with (
            torch.cuda.stream(other),
            torch.cuda.graph(graph, stream=other, capture_error_mode="thread_local"),
        ):
            outputs = function()
    except RuntimeError as error:  # such as a copy from another device, which no trial found
        raise RuntimeError(
            "a step of this model cannot be captured as a CUDA graph; decode without "
            "capture_steps()"
        ) from error
    finally:
        torch.set_autocast_cache_enabled(cached)

    def replay() -> Outputs:
        with torch.cuda.device(device):
            graph.replay()
        return outputs

    return replay


class _HostReads(TorchDispatchMode):
    """Notes operations inside the block that wait for the device, which a graph cannot.

    Attributes:
        names: their names in torch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note an operation, and run it."""
        name = func.overloadpacket.__name__
        # Indices that are masks are converted to numbers of elements, as by nonzero.
        masks = name in _INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in _HOST_READS or masks:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


_INDEXING = ("index", "index_put", "index_put_")
_HOST_READS = (
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "repeat_interleave", "_unique",
    "_unique2", "unique_dim", "unique_consecutive", "bincount", "lift_fresh",
)  # fmt: skip
"""Those whose result is a number or has a size that depends on values; and `torch.tensor`, which
copies from the host, also where it would do no harm."""


def find_host_reads(function: Callable[[], object]) -> set[str]:
    """Find the operations of a function that wait for the device, by trying; a graph may have none.

    Returns:
        Their names in torch.
    """
    with torch.no_grad(), _HostReads() as found:
        function()
    return found.names


def round_rows(count: int) -> int:
    """Return a number of rows that is at most a quarter larger, of which there are few."""
    unit = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // unit) * unit


def round_positions(count: int) -> int:
    """Return a number of positions of sources, rounded as rows are."""
    return round_rows(max(count, MIN_POSITIONS))
