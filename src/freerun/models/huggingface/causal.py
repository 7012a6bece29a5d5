"""A causal model as a policy."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.models.huggingface.base import HuggingFacePolicy, Inputs
from freerun.models.huggingface.cache import Past
from freerun.models.huggingface.rows import (
    Memory,
    Rows,
    RowsTrace,
    ancestors_of,
    right_edge,
    tree_mask,
)


class CausalPolicy(HuggingFacePolicy):
    """A Hugging Face causal model that continues prompts (see `HuggingFacePolicy`).

    Where prompts are written in the tokens of targets (`shared`), there is no bos: cell 0 reads the
    last token of the prompt, whatever it is given. Else it reads bos after the prompt.
    """

    def find_max_positions(self) -> int | None:
        """The rows of a table of positions, or as many as have angles of their own.

        Angles that change with the longest row (longrope, dynamic) are kept to the rows that do not
        change them: else a row would be scored as its batch is long.
        """
        config = self.config.get_text_config(decoder=True)
        angles = getattr(config, "rope_parameters", None)
        if not angles:
            rotary = getattr(config, "rope_theta", None)
            return None if rotary else getattr(config, "max_position_embeddings", None)
        each = [angles] if "rope_type" in angles else angles.values()
        bounds = (_unchanged(config, some) for some in each if some)
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def window(self) -> int | None:
        """How far the model looks back, where it is bound."""
        config = self.config.get_text_config(decoder=True)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
        return getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None

    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """The prompt, without what cell 0 reads.

        Raises:
            ValueError: where a prompt is empty and cell 0 has nothing to read.
        """
        if not self.shared:
            return source.lengths
        lengths = source.lengths - 1
        if bool((lengths < 0).any()):
            row = int(lengths.argmin())
            raise ValueError(f"the prompt of row {row} is empty; it needs a token, such as bos")
        return lengths

    def start(self, source: Source) -> Rows:
        """The state of every prompt before cell 0.

        Raises:
            ValueError: where a prompt is empty, or leaves no position to write at.
        """
        self.check_cache()
        before, tokens, first = self.prompt_lengths(source), self._tokens(source), None
        if self.shared:
            first = tokens.gather(1, before[:, None])[:, 0]
        longest = int(before.max())
        if self.max_positions is not None and longest >= self.max_positions:
            self.limit(source)  # says which row
        if longest == 0:
            return Rows(Past.empty(), None, before, first)
        positions = torch.arange(longest, device=before.device).expand(len(before), -1)
        # Padding stands behind what is read, where no token looks: so it needs no mask.
        _, past, _ = self.read(tokens[:, :longest], positions, None, Past.empty(), None)
        slots, kept = right_edge(before)
        if kept is not None:
            past = past.gather(torch.arange(len(before), device=before.device), slots)
        return Rows(past, kept, before, first)

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> RowsTrace:
        """Read prompts and whole rows of inputs in one pass.

        Raises:
            ValueError: where a parent does not stand before its input, and for trees where the
                model reads none (see `reads_trees`).
        """
        self.check_trees(parents)
        before, length = self.prompt_lengths(source), inputs.shape[1]
        slots = torch.arange(int(before.max()) + length, device=before.device)
        cells = slots - before[:, None]
        ancestors = None if parents is None else ancestors_of(parents)
        positions, mask = slots.expand(cells.shape), None
        if ancestors is not None:
            inside = cells.clamp(0, length - 1)
            depths = before[:, None] + ancestors.sum(2).gather(1, inside) - 1
            positions = torch.where(cells < 0, slots, depths)
            mask = tree_mask(ancestors, cells, self.dtype)
        elif not self.uses_cache:  # positions that are clipped would be taken for several sequences
            mask = torch.ones_like(cells, dtype=torch.bool)
        if self.max_positions is not None:
            positions = positions.clamp(max=self.max_positions - 1)
        rows = self._rows(source, inputs, cells, parents)
        hidden, past, _ = self.read(rows, positions, mask, Past.empty(), None)
        kept = past if self.uses_cache else None
        return RowsTrace(hidden, before, ancestors, kept, None, self.project, self.max_positions)

    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: Past,
        memory: Memory | None,
    ) -> tuple[Float[Tensor, "n q h"], Past, Memory | None]:
        """One pass over new slots."""
        cache = past.cache() if self.uses_cache else None
        # Of tokens, models would warn that some are padding: where it lies, no token looks.
        found = self.inner.base_model(
            inputs_embeds=inputs if inputs.is_floating_point() else self.embed(inputs),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return found.last_hidden_state, past if cache is None else past.after(cache), memory

    def _tokens(self, source: Source) -> Int[Tensor, "b s"]:
        """Prompts in the tokens of the model."""
        values = source.values
        if values.is_floating_point() or values.dim() != 2:
            raise ValueError("a causal model reads tokens, one at each position of the source")
        return values if self.shared else values + self.vocabulary.size

    def _rows(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        cells: Int[Tensor, "b s"],
        parents: Int[Tensor, "b t"] | None,
    ) -> Inputs:
        """Prompts, and right behind each its inputs."""
        prompt, count = self._tokens(source), cells.shape[0]
        slots = torch.arange(cells.shape[1], device=cells.device).expand_as(cells)
        prompts = prompt.gather(1, slots.clamp(max=prompt.shape[1] - 1))
        inside = cells.clamp(0, inputs.shape[1] - 1)
        ours = cells < 0
        if self.shared:  # what cell 0 reads is the prompt's, too
            at_start = cells == 0 if parents is None else (parents < 0).gather(1, inside)
            last = prompt.gather(1, self.prompt_lengths(source)[:, None])
            prompts = torch.where(ours, prompts, last)
            ours = ours | ((cells >= 0) & at_start)
        rows = torch.arange(count, device=cells.device)[:, None]
        if not inputs.is_floating_point():
            return torch.where(ours, prompts, inputs[rows, inside])
        embedded = self.embed(prompts).to(inputs.dtype)
        return torch.where(ours[..., None], embedded, inputs[rows, inside])


def _unchanged(config: Any, angles: dict[str, Any]) -> int | None:
    """The longest row that leaves angles as they are; None where all do."""
    if angles["rope_type"] == "longrope":
        return angles["original_max_position_embeddings"]
    return config.max_position_embeddings if angles["rope_type"] == "dynamic" else None
