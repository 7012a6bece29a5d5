"""An encoder-decoder as a policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import EncoderDecoderCache

from freerun.batch import Source
from freerun.models.huggingface.base import HuggingFacePolicy, Inputs
from freerun.models.huggingface.cache import Past
from freerun.models.huggingface.rows import Memory, Rows, RowsTrace, ancestors_of, tree_mask


class Seq2SeqPolicy(HuggingFacePolicy):
    """A Hugging Face encoder-decoder (see `HuggingFacePolicy`).

    `vocabulary.bos` is the token that its decoder starts with.
    """

    def find_max_positions(self) -> int | None:
        """The rows of the decoder's table of positions, where it has one."""
        return None if self._table is None else self.config.max_position_embeddings

    def find_max_source_length(self) -> int | None:
        """The rows of the encoder's table of positions, where it has one."""
        table = getattr(self.inner.get_encoder(), "embed_positions", None)
        return self.config.max_position_embeddings if isinstance(table, nn.Embedding) else None

    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """Nothing: the decoder starts with bos."""
        return torch.zeros_like(source.lengths)

    def start(self, source: Source) -> Rows:
        """The state of every sentence before bos."""
        self.check_cache()
        return Rows(Past.empty(), None, self.prompt_lengths(source), None, self._encode(source))

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> RowsTrace:
        """Read whole rows of inputs in one pass.

        Raises:
            ValueError: where a parent does not stand before its input, and for trees where the
                model reads none (see `reads_trees`).
        """
        self.check_trees(parents)
        before, shape = self.prompt_lengths(source), inputs.shape[:2]
        cells = torch.arange(shape[1], device=before.device).expand(shape)
        ancestors, mask, depths = None, None, cells
        if parents is not None:
            ancestors = ancestors_of(parents)
            depths, mask = ancestors.sum(2) - 1, tree_mask(ancestors, cells, self.dtype)
        if self.max_positions is not None:
            depths = depths.clamp(max=self.max_positions - 1)
        hidden, past, memory = self.read(inputs, depths, mask, Past.empty(), self._encode(source))
        kept = past if self.uses_cache else None
        return RowsTrace(hidden, before, ancestors, kept, memory, self.project, self.max_positions)

    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: Past,
        memory: Memory | None,
    ) -> tuple[Float[Tensor, "n q h"], Past, Memory | None]:
        """One pass of the decoder over new slots."""
        if memory is None:
            raise ValueError("an encoder-decoder needs what its encoder made of the sources")
        cache = None
        if self.uses_cache:
            cache = EncoderDecoderCache(past.cache(), memory.cross.cache())
        with self._placed(positions):
            found = self.inner.get_decoder()(
                **{"inputs_embeds" if inputs.is_floating_point() else "input_ids": inputs},
                attention_mask=mask,
                encoder_hidden_states=memory.hidden,
                encoder_attention_mask=memory.mask,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        if cache is None:
            return found.last_hidden_state, past, memory
        after, cross = past.after(cache.self_attention_cache), memory.cross
        if cross.used == 0:
            cross = cross.after(cache.cross_attention_cache)
        return found.last_hidden_state, after, Memory(memory.hidden, memory.mask, cross)

    def _encode(self, source: Source) -> Memory:
        values = source.values
        if values.is_floating_point() or values.dim() != 2:
            raise ValueError("an encoder-decoder reads tokens, one at each position of the source")
        tokens = values if self.shared else values + self.vocabulary.size
        encoder = self.inner.get_encoder()
        mask, most = source.mask, self.max_source_length
        if most is not None and mask.shape[1] > most:
            row = int(source.lengths.argmax())
            if source.lengths[row] > most:
                raise ValueError(
                    f"the source of row {row} has {int(source.lengths[row])} tokens, more than the "
                    f"{most} positions of the model; shorten it"
                )
            tokens, mask = tokens[:, :most], mask[:, :most]
        hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return Memory(hidden, mask, Past.empty())

    @property
    def _table(self) -> nn.Embedding | None:
        """The decoder's table of positions; None where it knows only distances."""
        table = getattr(self.inner.get_decoder(), "embed_positions", None)
        return table if isinstance(table, nn.Embedding) else None

    @contextmanager
    def _placed(self, positions: Int[Tensor, "n q"]) -> Iterator[None]:
        """Let rows stand at positions of their own, where a decoder counts slots, alike for all."""
        table = self._table
        if table is None:
            yield
            return

        def instead(*args: Any, **kwargs: Any) -> Tensor:
            return F.embedding(positions + getattr(table, "offset", 0), table.weight)

        # Not by a hook: the table would still look up the slots, which may be more than it has.
        before = vars(table).get("forward")
        vars(table)["forward"] = instead
        try:
            yield
        finally:
            del vars(table)["forward"]
            if before is not None:
                vars(table)["forward"] = before
