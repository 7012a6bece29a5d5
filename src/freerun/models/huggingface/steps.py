"""Steps of decoding in buffers of constant shape, which can be captured as CUDA graphs.

A step of a small model is a few hundred short kernels, and launching them takes longer than running
them. A graph launches all of them at once. It always reads and writes the same addresses, so keys
and values are written into buffers that belong to it, and weights may be trained in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import Cache, CacheLayerMixin

from freerun.models.huggingface.cache import KeyValues, KeyValueStore, first_slots
from freerun.policy import evaluation_mode

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

MIN_SLOTS = 64
"""The minimum number of slots of a buffer."""

MAX_IDLE_BYTES = 2**31
"""The maximum size of buffers that are kept for later rows."""

CAPTURES = ("cuda",)
"""The types of devices on which steps are captured."""

SlotMask = Bool[Tensor, "n l"] | Float[Tensor, "n 1 1 l"] | None
"""What a new slot attends to, as in `HuggingFacePolicy.read`."""

Read = Callable[..., Float[Tensor, "n 1 h"]]


class StaticLayer(CacheLayerMixin):
    """The keys and values of one layer, with a new slot at a number that is a tensor."""

    is_sliding = False
    is_compileable = True

    def __init__(self, keys: Tensor, values: Tensor, slot: Int[Tensor, "1"]) -> None:
        super().__init__()
        self.keys, self.values, self.slot = keys, values, slot
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: buffers are allocated before."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new slot, and return all of them, free ones included."""
        self.keys.index_copy_(2, self.slot, key_states)
        self.values.index_copy_(2, self.slot, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of slots, and that of the first."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Any:
        """Return the number of slots that were used before."""
        return self.slot[0]

    def get_max_length(self) -> int:
        """Return the number of slots."""
        return self.keys.shape[2]


def read_slot(
    policy: HuggingFacePolicy,
    tokens: Int[Tensor, "n 1"],
    positions: Int[Tensor, "n 1"],
    slot: Int[Tensor, "1"],
    mask: Float[Tensor, "n 1 1 c"],
    layers: list[tuple[Tensor, Tensor]],
) -> Float[Tensor, "n 1 h"]:
    """Read one token per row into a slot of the buffers; return the last hidden states."""
    cache = Cache(layers=[StaticLayer(keys, values, slot) for keys, values in layers])
    found = policy.run_decoder(
        positions,
        inputs_embeds=policy.embed(tokens),
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
    )
    return found.last_hidden_state


class Step:
    """The buffers of one step, and what replays it on a GPU.

    Args:
        read: `read_slot`, perhaps compiled.
        policy: the policy.
        past: keys and values in the dtype of the buffers.
        shape: the numbers of rows and slots of the buffers.
    """

    def __init__(
        self, read: Read, policy: HuggingFacePolicy, past: KeyValues, shape: tuple[int, int]
    ) -> None:
        self.read, self.shape, self.key = read, shape, make_key(policy, past)
        rows, slots = shape
        first = past.store.layers[0][0]
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=first.device)
        self.positions, self.slot = torch.zeros_like(self.tokens), self.tokens.new_zeros(1)
        self.mask = torch.zeros(rows, 1, 1, slots, dtype=policy.dtype, device=first.device)
        self.layers = [
            tuple(
                states.new_zeros(rows, states.shape[1], slots, states.shape[3]) for states in layer
            )
            for layer in past.store.layers
        ]
        self.replay: Callable[[], Tensor] | None = None

    @property
    def bytes(self) -> int:
        """The size of the buffers."""
        return sum(states.nbytes for layer in self.layers for states in layer)

    def load(self, past: KeyValues) -> None:
        """Copy keys and values into the buffers."""
        for buffers, layer in zip(self.layers, past.store.layers, strict=True):
            for buffer, states in zip(buffers, layer, strict=True):
                # Earlier rows may have left NaN in free slots, which would pass through a mask.
                buffer.zero_()
                buffer[: past.rows, :, : past.used] = first_slots(states, past.used)

    def run(
        self,
        policy: HuggingFacePolicy,
        tokens: Int[Tensor, "k 1"],
        positions: Int[Tensor, "k 1"],
        mask: SlotMask,
        slot: int,
    ) -> Float[Tensor, "k 1 h"]:
        """Read one token per row into a slot; return the last hidden states."""
        count = len(tokens)
        self.tokens[:count], self.positions[:count] = tokens, positions
        self.slot.fill_(slot)
        self.mask.fill_(torch.finfo(self.mask.dtype).min)
        visible = self.mask[:count, :, :, : slot + 1]
        if mask is None:
            visible.zero_()
        elif mask.dtype == torch.bool:
            visible.masked_fill_(mask[:, None, None], 0.0)
        else:
            visible.copy_(mask)
        # A graph goes on with exactly these tensors.
        inputs = self.tokens, self.positions, self.slot, self.mask, self.layers
        read = partial(self.read, policy, *inputs)
        if self.tokens.device.type not in CAPTURES:
            return read()[:count]
        if self.replay is None:
            self.replay = capture(read, self.tokens.device)
        return self.replay()[:count].clone()  # which the next replay overwrites


def capture(function: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Capture the kernels of a function as a CUDA graph; return a function that launches them.

    It always returns the same tensor.

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
        with torch.cuda.graph(graph, stream=other, capture_error_mode="thread_local"):
            output = function()
    except RuntimeError as error:  # such as a copy from another device, which no trial found
        raise RuntimeError(
            "a step of this model cannot be captured as a CUDA graph; decode without "
            "capture_steps()"
        ) from error
    finally:
        torch.set_autocast_cache_enabled(cached)

    def replay() -> Tensor:
        with torch.cuda.device(device):
            graph.replay()
        return output

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


@torch.no_grad()
def find_host_reads(policy: HuggingFacePolicy) -> set[str]:
    """Find the operations of a step that wait for the device, by trying; a graph may have none."""
    with evaluation_mode(policy):
        past = policy.start(policy.make_example_source((3, 2))).past
        step = Step(read_slot, policy, past, (past.rows, past.used + 1))
        step.load(past)
        step.slot.fill_(past.used)
        with _HostReads() as found:
            step.read(policy, step.tokens, step.positions, step.slot, step.mask, step.layers)
    return found.names


class StaticStore(KeyValueStore):
    """The first rows of the buffers of a step, which belong to no other store meanwhile."""

    def __init__(self, step: Step, past: KeyValues) -> None:
        step.load(past)
        super().__init__([(k[: past.rows], v[: past.rows]) for k, v in step.layers], past.used)
        self.step = step


class StaticSteps:
    """All steps of a policy, by the shapes of their buffers.

    Args:
        options: options of `torch.compile`; if there are none, nothing is compiled.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.idle = options, list[Step]()
        compiled = torch.compile(read_slot, fullgraph=True, **options) if options else read_slot
        self.read_slot: Read = compiled

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to copy them: a copy of a policy has other weights, so without graphs."""
        return StaticSteps, (self.options,)

    def read(
        self,
        policy: HuggingFacePolicy,
        tokens: Int[Tensor, "n 1"],
        positions: Int[Tensor, "n 1"],
        mask: SlotMask,
        past: KeyValues,
    ) -> tuple[Float[Tensor, "n 1 h"], KeyValues]:
        """Read one token per row into a new slot, as `HuggingFacePolicy.read` does."""
        store, used = past.store, past.used
        # If another state has continued these rows, its slots must not be overwritten.
        if (
            not isinstance(store, StaticStore)
            or store.filled != used
            or store.step.shape[1] == used
            or store.step.key != make_key(policy, past)
        ):
            store = self._make_store(policy, past)
        hidden = store.step.run(policy, tokens, positions, mask, used)
        store.filled = used + 1
        return hidden, KeyValues(store, used + 1)

    def _make_store(self, policy: HuggingFacePolicy, past: KeyValues) -> StaticStore:
        """Copy keys and values into buffers that no state uses."""
        shape, key = (round_rows(past.rows), round_slots(past.used + 1)), make_key(policy, past)
        step = next((s for s in self.idle if s.shape == shape and s.key == key), None)
        if step is None:
            step = Step(self.read_slot, policy, past, shape)
        else:
            self.idle.remove(step)
        store = StaticStore(step, past)
        weakref.finalize(store, self._release, step).atexit = False
        return store

    def _release(self, step: Step) -> None:
        """Keep the buffers of a step for later, and forget the oldest if there are too many."""
        self.idle.append(step)
        while sum(step.bytes for step in self.idle) > MAX_IDLE_BYTES:
            self.idle.pop(0)


def make_key(policy: HuggingFacePolicy, past: KeyValues) -> tuple[Hashable, ...]:
    """Return what a graph depends on besides its shape."""
    keys = past.store.layers[0][0]
    autocast = torch.is_autocast_enabled(keys.device.type)
    precision = torch.get_autocast_dtype(keys.device.type) if autocast else None
    return policy.decoder.get_input_embeddings().weight.data_ptr(), keys.dtype, precision


def round_rows(count: int) -> int:
    """Return a number of rows that is at most a quarter larger, of which there are few."""
    unit = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // unit) * unit


def round_slots(count: int) -> int:
    """Return a number of slots: a power of 2."""
    return max(MIN_SLOTS, 1 << (count - 1).bit_length())
