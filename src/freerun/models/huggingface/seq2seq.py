"""Encoder-decoders as policies."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache

from freerun.batch import Source
from freerun.models.huggingface.base import HuggingFacePolicy, Inputs
from freerun.models.huggingface.cache import KeyValues
from freerun.models.huggingface.probe import can_share_sources
from freerun.models.huggingface.sharing import share_sources
from freerun.models.huggingface.stack import find_position_table
from freerun.models.huggingface.state import (
    CacheState,
    CacheTrace,
    EncoderOutputs,
    find_ancestors,
    make_tree_mask,
)


class Seq2SeqPolicy(HuggingFacePolicy):
    """A Hugging Face encoder-decoder (see `HuggingFacePolicy`).

    `vocabulary.bos` is the token that its decoder starts with.
    """

    @cached_property
    def shares_sources(self) -> bool:
        """Whether rows of one source can share its keys and values; found by trying."""
        # While this is being tried, states must share them.
        self.__dict__["shares_sources"] = True
        try:
            return can_share_sources(self)
        finally:
            del self.__dict__["shares_sources"]

    def capture_steps(self, **options: Any) -> None:
        """Decode by static steps from now on; see `HuggingFacePolicy.capture_steps`."""
        super().capture_steps(**options)
        # The buffers of a step hold the keys and values of the source of each row.
        self.shares_sources = False

    def find_max_source_length(self) -> int | None:
        """Return the size of the encoder's table of positions; None if it has none."""
        table = find_position_table(self.inner.get_encoder(), self.config)
        return None if table is None else table.size

    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """Return the length of the prefix, which is that of every row."""
        return torch.full_like(source.lengths, len(self.prefix))

    def start(self, source: Source) -> CacheState:
        """Return the state of every sentence before bos."""
        self.check_cache()
        before, encoder, past = self.prompt_lengths(source), self._encode(source), KeyValues.empty()
        if self.prefix:
            tokens = before.new_tensor(self.prefix).expand(len(before), -1)
            positions = torch.arange(len(self.prefix), device=before.device).expand_as(tokens)
            _, past, found = self.read(tokens, positions, None, past, encoder)
            encoder = encoder if found is None else found
        return CacheState(past, None, before, None, encoder)

    def prepare_sources(self, state: CacheState) -> CacheState:
        """Return the state with the keys and values of its sources, if rows can share them."""
        encoder = state.encoder
        if encoder is None or encoder.cross.used or not self.shares_sources:
            return state
        first = torch.full_like(state.position, self.vocabulary.bos)[:, None]
        _, _, found = self.read(first, state.position[:, None], None, state.past, encoder)
        return replace(state, encoder=found)

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> CacheTrace:
        """Read whole rows of inputs in one pass, after the prefix.

        Raises:
            ValueError: if a parent does not come before its input, or there are trees and the model
                reads none (see `reads_trees`).
        """
        self.check_trees(parents)
        before, first = self.prompt_lengths(source), len(self.prefix)
        slots = torch.arange(first + inputs.shape[1], device=before.device)
        slots = slots.expand(len(inputs), -1)
        ancestors, mask, positions = None, None, slots
        if parents is not None:
            ancestors = find_ancestors(parents)
            # An input is at the position of its depth, not of its slot.
            depths = first + ancestors.sum(2) - 1
            positions = torch.cat([slots[:, :first], depths], 1)
            mask = make_tree_mask(ancestors, slots - first, self.dtype)
        if self.max_positions is not None:
            positions = positions.clamp(max=self.max_positions - 1)
        hidden, past, encoder = self.read(
            self._join_prefix(inputs), positions, mask, KeyValues.empty(), self._encode(source)
        )
        kept, head = past if self.uses_cache else None, (self.project, self.vocabulary.actions)
        return CacheTrace(hidden, before, ancestors, kept, encoder, *head, self.max_positions)

    def _join_prefix(
        self, inputs: Int[Tensor, "n t"] | Float[Tensor, "n t e"]
    ) -> Int[Tensor, "n q"] | Float[Tensor, "n q e"]:
        """Return rows of inputs with the prefix before them."""
        if not self.prefix:
            return inputs
        tokens = torch.tensor(self.prefix, device=inputs.device).expand(len(inputs), -1)
        embedded = inputs.is_floating_point()
        return torch.cat([self.embed(tokens).to(inputs.dtype) if embedded else tokens, inputs], 1)

    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n q h"], KeyValues, EncoderOutputs | None]:
        """Run the decoder over new slots."""
        if encoder is None:
            raise ValueError("an encoder-decoder needs what its encoder made of the sources")
        cache = None
        if self.uses_cache:
            cache = EncoderDecoderCache(past.make_cache(), encoder.cross.make_cache())
        # A cached property cannot be compiled (see `capture_steps`).
        shared = None if encoder.rows is None else encoder.shared
        with nullcontext() if shared is None else share_sources(self.decoder, shared):
            found = self.run_decoder(
                positions,
                **{"inputs_embeds" if inputs.is_floating_point() else "input_ids": inputs},
                attention_mask=mask,
                encoder_hidden_states=encoder.hidden,
                **({} if encoder.mask is None else {"encoder_attention_mask": encoder.mask}),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        if cache is None:
            return found.last_hidden_state, past, encoder
        after = past.extend(cache.self_attention_cache)
        if encoder.cross.used == 0:  # the first pass made them; later ones only read them
            cross = encoder.cross.extend(cache.cross_attention_cache)
            encoder = EncoderOutputs(
                encoder.hidden, encoder.mask, cross, lambda: self.shares_sources
            )
        return found.last_hidden_state, after, encoder

    def _encode(self, source: Source) -> EncoderOutputs:
        values = source.values
        if values.is_floating_point() or values.dim() != 2:
            raise ValueError("an encoder-decoder reads tokens, one at each position of the source")
        tokens = values if self.shared else values + self.vocabulary.size
        encoder = self.inner.get_encoder()
        mask, longest = source.mask, self.max_source_length
        # Padding alone may exceed the positions; then it is cut off.
        if longest is not None and mask.shape[1] > longest:
            row = int(source.lengths.argmax())
            if source.lengths[row] > longest:
                raise ValueError(
                    f"the source of row {row} has {int(source.lengths[row])} tokens, more than the "
                    f"{longest} positions of the model; shorten it"
                )
            tokens, mask = tokens[:, :longest], mask[:, :longest]
        hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        # Only an EncoderDecoderModel whose parts differ in width has it.
        bridge = getattr(self.inner, "enc_to_dec_proj", None)
        hidden = hidden if bridge is None else bridge(hidden)
        return EncoderOutputs(hidden, mask, KeyValues.empty())
