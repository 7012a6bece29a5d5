"""Causal models as policies."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.models.huggingface.base import HuggingFacePolicy, Inputs
from freerun.models.huggingface.cache import KeyValues
from freerun.models.huggingface.state import (
    CacheState,
    CacheTrace,
    EncoderOutputs,
    align_right,
    find_ancestors,
    make_tree_mask,
)


class CausalPolicy(HuggingFacePolicy):
    """A Hugging Face causal model that continues prompts (see `HuggingFacePolicy`).

    If prompts use the tokens of targets (`shared`), there is no bos: cell 0 reads the last token of
    the prompt instead of its input. Otherwise it reads bos, after the prompt.
    """

    def find_max_positions(self) -> int | None:
        """Return the size of the table of positions; None for most rotary ones.

        Some rotary angles change with the longest row (longrope, dynamic). Rows are limited to a
        length at which they do not change, because the score of a row would depend on its batch
        otherwise.
        """
        if self.position_table is not None:
            return self.position_table.size
        # The configuration of an architecture only has fields that it uses.
        config = self.config.get_text_config(decoder=True)
        angles = getattr(config, "rope_parameters", None)
        if not angles:
            rotary = getattr(config, "rope_theta", None)
            return None if rotary else getattr(config, "max_position_embeddings", None)
        each = [angles] if "rope_type" in angles else angles.values()
        bounds = (_find_constant_length(config, some) for some in each if some)
        return min((bound for bound in bounds if bound is not None), default=None)

    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """Return the lengths of prompts, without what cell 0 reads.

        Raises:
            ValueError: if a prompt is empty and cell 0 has nothing to read.
        """
        if not self.shared:
            return source.lengths
        lengths = source.lengths - 1
        if bool((lengths < 0).any()):
            row = int(lengths.argmin())
            raise ValueError(f"the prompt of row {row} is empty; it needs a token, such as bos")
        return lengths

    def start(self, source: Source) -> CacheState:
        """Return the state of every prompt before cell 0.

        Raises:
            ValueError: if a prompt is empty, or leaves no position to write at.
        """
        self.check_cache()
        before, tokens, first = self.prompt_lengths(source), self._to_model_tokens(source), None
        if self.shared:
            first = tokens.gather(1, before[:, None])[:, 0]
        longest = int(before.max())
        if self.max_positions is not None and longest >= self.max_positions:
            self.limit(source)  # raises, and names the row
        if longest == 0:
            return CacheState(KeyValues.empty(), None, before, first)
        positions = torch.arange(longest, device=before.device).expand(len(before), -1)
        # No mask is needed: padding comes after the tokens, which do not attend to it. Prompts are
        # moved to the right edge afterwards.
        _, past, _ = self.read(tokens[:, :longest], positions, None, KeyValues.empty(), None)
        slots, kept = align_right(before)
        if kept is not None:
            past = past.gather(torch.arange(len(before), device=before.device), slots)
        return CacheState(past, kept, before, first)

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> CacheTrace:
        """Read prompts and whole rows of inputs in one pass.

        Raises:
            ValueError: if a parent does not come before its input, or there are trees and the model
                reads none (see `reads_trees`).
        """
        self.check_trees(parents)
        before, length = self.prompt_lengths(source), inputs.shape[1]
        # Rows start at slot 0, and inputs follow their prompt directly. Padding comes last, where
        # causal attention ignores it.
        slots = torch.arange(int(before.max()) + length, device=before.device)
        cells = slots - before[:, None]
        ancestors = None if parents is None else find_ancestors(parents)
        positions, mask = slots.expand(cells.shape), None
        if ancestors is not None:
            inside = cells.clamp(0, length - 1)
            # An input is at the position of its depth, not of its slot.
            depths = before[:, None] + ancestors.sum(2).gather(1, inside) - 1
            positions = torch.where(cells < 0, slots, depths)
            mask = make_tree_mask(ancestors, cells, self.dtype)
        elif not self.uses_cache:
            # Without mask and cache, transformers interprets positions that do not increase by one,
            # as clipped ones do, as several sequences packed into a row.
            mask = torch.ones_like(cells, dtype=torch.bool)
        if self.max_positions is not None:
            positions = positions.clamp(max=self.max_positions - 1)
        rows = self._join_inputs(source, inputs, cells, parents)
        hidden, past, _ = self.read(rows, positions, mask, KeyValues.empty(), None)
        kept, head = past if self.uses_cache else None, (self.project, self.vocabulary.actions)
        return CacheTrace(hidden, before, ancestors, kept, None, *head, self.max_positions)

    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n q h"], KeyValues, EncoderOutputs | None]:
        """Run the model over new slots."""
        cache = past.make_cache() if self.uses_cache else None
        # Embeddings, as models that see pad tokens without a mask warn about them.
        found = self.run_decoder(
            positions,
            inputs_embeds=inputs if inputs.is_floating_point() else self.embed(inputs),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return found.last_hidden_state, past if cache is None else past.extend(cache), encoder

    def _to_model_tokens(self, source: Source) -> Int[Tensor, "b s"]:
        """Return prompts in the tokens of the model."""
        values = source.values
        if values.is_floating_point() or values.dim() != 2:
            raise ValueError("a causal model reads tokens, one at each position of the source")
        return values if self.shared else values + self.vocabulary.size

    def _join_inputs(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        cells: Int[Tensor, "b s"],
        parents: Int[Tensor, "b t"] | None,
    ) -> Inputs:
        """Return rows of prompts, each directly followed by its inputs."""
        prompt, count = self._to_model_tokens(source), cells.shape[0]
        slots = torch.arange(cells.shape[1], device=cells.device).expand_as(cells)
        prompts = prompt.gather(1, slots.clamp(max=prompt.shape[1] - 1))
        inside = cells.clamp(0, inputs.shape[1] - 1)
        of_prompt = cells < 0
        if self.shared:  # cell 0 reads the last token of the prompt; in a tree, every root does
            at_start = cells == 0 if parents is None else (parents < 0).gather(1, inside)
            last = prompt.gather(1, self.prompt_lengths(source)[:, None])
            prompts = torch.where(of_prompt, prompts, last)
            of_prompt = of_prompt | ((cells >= 0) & at_start)
        rows = torch.arange(count, device=cells.device)[:, None]
        if not inputs.is_floating_point():
            return torch.where(of_prompt, prompts, inputs[rows, inside])
        embedded = self.embed(prompts).to(inputs.dtype)
        return torch.where(of_prompt[..., None], embedded, inputs[rows, inside])


def _find_constant_length(config: Any, angles: dict[str, Any]) -> int | None:
    """Return the maximum length of rows that leave rotary angles unchanged; None if all do."""
    if angles["rope_type"] == "longrope":
        return angles["original_max_position_embeddings"]
    return config.max_position_embeddings if angles["rope_type"] == "dynamic" else None
