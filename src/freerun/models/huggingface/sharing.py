"""Cross-attention of many rows to few sources, without keys and values of their own for each row.

Roll-outs continue a source from hundreds of prefixes. A copy of the keys and values of an encoder
for each of them takes most of the time and memory if sources are long, as those of sounds are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


@dataclass(frozen=True)
class SharedSources:
    """The sources of rows, of which several may read the same.

    The queries of a source are brought side by side, so that one attention reads its keys.

    Args:
        rows: the source of each row.
        count: the number of sources.
    """

    rows: Int[Tensor, "n"]
    count: int

    @cached_property
    def _order(self) -> tuple[Int[Tensor, "n"], Int[Tensor, "b"], Int[Tensor, "b"]]:
        """Return rows by source, the first of each source among them, and the number of each."""
        counts = self.rows.bincount(minlength=self.count)
        return self.rows.argsort(stable=True), counts.cumsum(0) - counts, counts

    @cached_property
    def width(self) -> int:
        """The maximum number of rows of a source."""
        return int(self._order[2].max())

    @cached_property
    def places(self) -> Int[Tensor, "n"]:
        """The place of each row if every source has `width` of them."""
        order, starts, _ = self._order
        sources = self.rows[order]
        ranks = torch.arange(len(order), device=order.device) - starts[sources]
        return torch.empty_like(order).index_copy_(0, order, sources * self.width + ranks)

    @cached_property
    def examples(self) -> Int[Tensor, "b"]:
        """A row of each source; any row if it has none."""
        order, starts, _ = self._order
        return order[starts.clamp(max=len(order) - 1)]

    def group(self, query: Float[Tensor, "n h q d"]) -> Float[Tensor, "b h m d"]:
        """Return the queries of each source, m = `width`·q, with zeros after them."""
        every = query.new_zeros(self.count * self.width, *query.shape[1:])
        every = every.index_copy(0, self.places, query)
        grouped = every.unflatten(0, (self.count, self.width)).transpose(1, 2)
        return grouped.flatten(2, 3)

    def ungroup(self, found: Float[Tensor, "b m h d"]) -> Float[Tensor, "n q h d"]:
        """Return the values of each row."""
        return found.unflatten(1, (self.width, -1)).flatten(0, 1)[self.places]


@contextmanager
def share_sources(decoder: PreTrainedModel, shared: SharedSources) -> Iterator[None]:
    """Let attention whose keys have a row for each source read them for all of its rows."""
    name: Any = decoder.config._attn_implementation
    replaced = ALL_ATTENTION_FUNCTIONS.get(name)

    def attend_shared(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        # The eager attention is a function in the file of each model.
        attend = replaced or vars(sys.modules[type(module).__module__])["eager_attention_forward"]
        if len(key) == len(query):  # that of a row to itself, as there are more rows than sources
            return attend(module, query, key, value, attention_mask, **kwargs)
        if attention_mask is not None and len(attention_mask) == len(query):
            attention_mask = attention_mask[shared.examples][:, :, :1]
        given = kwargs | {"is_causal": False}
        found, _ = attend(module, shared.group(query), key, value, attention_mask, **given)
        return shared.ungroup(found), None

    own = vars(ALL_ATTENTION_FUNCTIONS)["_local_mapping"]
    before = dict(own)
    own[name] = attend_shared
    try:
        yield
    finally:
        own.clear()
        own.update(before)
