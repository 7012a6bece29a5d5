"""What causal and encoder-decoder models have in common as policies."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from freerun.batch import Source
from freerun.models.huggingface.cache import Past
from freerun.models.huggingface.embeddings import of_rows
from freerun.models.huggingface.head import Head
from freerun.models.huggingface.probe import probe, reads_trees
from freerun.models.huggingface.rows import NO_CACHE, Memory, Rows, RowsTrace
from freerun.models.huggingface.writer import CacheEraser, CacheWriter
from freerun.policy import Policy
from freerun.vocabulary import Vocabulary

Inputs = Int[Tensor, "n q"] | Float[Tensor, "n q e"]


class HuggingFacePolicy(Policy):
    """A Hugging Face model behind the policy protocol.

    Nothing of the model's `generation_config` is used. Gradients flow through `step` and `force`.

    Args:
        model: the model, or the PeftModel around it.
        vocabulary: what it writes: the first columns of its scores.
        limit: the most tokens that an output may have, eos included.
        shared: whether sources are written in the tokens of targets. If not, token i of a source is
            fed as `vocabulary.size` + i.

    Attributes:
        reads_trees: whether the model reads trees of prefixes, and can withdraw tokens. Those that
            know positions by the distance of slots (T5, Bloom), or look back a bounded way
            (Mistral), do not.

    Raises:
        ValueError: where the model has fewer tokens than the vocabulary, where its prompts are
            learnt, or where its scores with a cache differ from recomputation.
    """

    def __init__(
        self, model: nn.Module, vocabulary: Vocabulary, *, limit: int, shared: bool = True
    ) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError("adapters that learn a prompt cannot be used; LoRA can")
        self.model, self.vocabulary = model, vocabulary
        self.max_new_tokens, self.shared = limit, shared
        rows = self.inner.get_input_embeddings().weight.shape[0]  # adapters have no num_embeddings
        if rows < vocabulary.size:
            raise ValueError(
                f"the model has {rows} tokens, fewer than the {vocabulary.size} of the vocabulary; "
                "see resize_token_embeddings"
            )
        self.max_positions = self.find_max_positions()
        self.max_source_length = self.find_max_source_length()
        probe(self)
        self.reads_trees = self.window is None  # not yet tried: `reads_trees` calls force
        self.reads_trees = self.can_withdraw = self.reads_trees and reads_trees(self)
        self.training = self.inner.training

    @property
    def inner(self) -> PreTrainedModel:
        """The model itself, without what peft puts around it."""
        unwrap: Any = getattr(self.model, "get_base_model", None)
        found: Any = self.model if unwrap is None else unwrap()
        return cast("PreTrainedModel", found)

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return self.inner.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.inner.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return self.inner.dtype

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Save the model, or its adapters alone, in the form of its library."""
        model: Any = self.model
        model.save_pretrained(str(folder), **of_rows(model), **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What else transformers asks of a model, such as checkpointing switches: the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "model" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self.model, name)

    @cached_property
    def head(self) -> Head:
        """How scores are made. To read the configuration at every step would cost as much again."""
        return Head.of(self.inner)

    def find_max_positions(self) -> int | None:
        """Return the maximum number of positions of a row; None if unbounded."""
        return None

    def find_max_source_length(self) -> int | None:
        """Return the maximum number of tokens that an encoder reads; None if unbounded."""
        return None

    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """The embeddings of tokens, or mixtures of the actions' embeddings."""
        embedding = self.inner.get_input_embeddings()
        if not weights.is_floating_point():
            return embedding(weights)
        # Through the module, whose weight may be sharded.
        table = embedding(torch.arange(self.vocabulary.actions, device=weights.device))
        return weights @ table.to(weights.dtype)

    def step(  # type: ignore[override]  # a policy steps the states that it made
        self, state: Rows, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n a"], Rows]:
        """Read one input a row: the scores of the next token, and the new state.

        Beyond the positions that the model has (see `limit`), scores are not numbers.

        Raises:
            ValueError: under gradient checkpointing in training mode.
        """
        hidden, state = self.advance(state, inputs)
        return self.project(hidden), state

    def advance(  # type: ignore[override]  # as in step
        self, state: Rows, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], Rows]:
        """As `step`, without projecting to scores."""
        self.check_cache()
        if state.first is not None:
            embedded = inputs.is_floating_point()
            inputs = self.embed(state.first).to(inputs.dtype) if embedded else state.first
        mask = state.mask
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position, beyond = state.position[:, None], None
        if self.max_positions is not None and state.past.used >= self.max_positions:
            # Some row may be; it may also have ended, and only not have left yet.
            beyond = position >= self.max_positions
            position = position.clamp(max=self.max_positions - 1)
        hidden, past, memory = self.read(inputs[:, None], position, mask, state.past, state.memory)
        hidden = hidden[:, -1] if beyond is None else hidden[:, -1].masked_fill(beyond, torch.nan)
        return hidden, Rows(past, mask, state.position + 1, None, memory)

    def project(self, hidden: Float[Tensor, "*rows h"]) -> Float[Tensor, "*rows a"]:
        """The scores of the actions."""
        return self.head.scores(self.inner, hidden, self.vocabulary.actions)

    def writer(self) -> CacheWriter:
        """A writer that drops rows when it pays, and uses_cache no scores."""
        return CacheWriter(self)

    def eraser(self, source: Source) -> CacheEraser:
        """Rows that write and withdraw, before cell 0.

        Raises:
            ValueError: where the model would misplace tokens once some were withdrawn.
        """
        if not self.can_withdraw:
            name = type(self.inner).__name__
            raise ValueError(
                f"{name} cannot withdraw tokens: it knows positions by the distance of slots, or "
                "looks back a bounded way, and would misplace those that remain; take one with "
                "absolute or rotary positions and no sliding window"
            )
        return CacheEraser(self, self.start(source))

    def limit(self, source: Source) -> Int[Tensor, "b"]:
        """The limit given, or what is left of the model's positions.

        Raises:
            ValueError: where a source leaves no position to write at.
        """
        most = torch.full_like(source.lengths, self.max_new_tokens)
        if self.max_positions is None:
            return most
        left = self.max_positions - self.prompt_lengths(source)
        row = int(left.argmin())
        if left[row] < 1:
            raise ValueError(
                f"the source of row {row} has {int(source.lengths[row])} tokens, which leaves none "
                f"of the {self.max_positions} positions of the model to write at; shorten it"
            )
        return torch.minimum(most, left)

    @property
    def window(self) -> int | None:
        """How far the model looks back, where it is bound."""
        return None

    @abstractmethod
    def prompt_lengths(self, source: Source) -> Int[Tensor, "b"]:
        """How many tokens stand before the input of cell 0."""

    @abstractmethod
    def start(self, source: Source) -> Rows:
        """The state of every sentence before cell 0."""

    @abstractmethod
    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> RowsTrace:
        """Read whole rows of inputs in one pass."""

    @abstractmethod
    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: Past,
        memory: Memory | None,
    ) -> tuple[Float[Tensor, "n q h"], Past, Memory | None]:
        """One pass of the decoder over new slots.

        Args:
            inputs: tokens or embeddings.
            positions: of each.
            mask: true on the slots that may be looked at, old and new; or what is added to the
                attention of each new slot to each slot; None where all are there.
            past: the old slots; it is left as it is.
            memory: of the encoder, if there is one.

        Returns:
            The last hidden states, and past and memory as they are then.
        """

    @property
    def uses_cache(self) -> bool:
        """Whether a pass uses_cache keys and values."""
        inner = self.inner
        if not inner.training:
            return True
        return not any(getattr(m, "gradient_checkpointing", False) for m in inner.modules())

    def check_trees(self, parents: Int[Tensor, "b t"] | None) -> None:
        """See that a tree can be read, if there is one.

        Raises:
            ValueError: where it cannot.
        """
        if parents is not None and not self.reads_trees:
            name = type(self.inner).__name__
            raise ValueError(f"{name} reads no trees of prefixes: it would misplace their tokens")

    def check_cache(self) -> None:
        """See that keys and values are kept.

        Raises:
            ValueError: where they are not.
        """
        if not self.uses_cache:
            raise ValueError(NO_CACHE)
