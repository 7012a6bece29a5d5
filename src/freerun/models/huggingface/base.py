"""The common base class of causal models and encoder-decoders of Hugging Face as policies."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from freerun.batch import Source
from freerun.models.huggingface.cache import KeyValues
from freerun.models.huggingface.dropout import switch_off_layer_drop
from freerun.models.huggingface.embeddings import adapter_save_options
from freerun.models.huggingface.generation import find_misplaced_settings, make_generation_config
from freerun.models.huggingface.probe import (
    can_continue_rows,
    can_read_trees,
    check_scores,
)
from freerun.models.huggingface.stack import (
    PROBE_LENGTH,
    PositionTable,
    find_decoder,
    find_head_scale,
    find_position_table,
    replace_forward,
    run_head,
    takes_positions,
)
from freerun.models.huggingface.state import (
    NO_CACHE,
    CacheState,
    CacheTrace,
    ContinuedTrace,
    EncoderOutputs,
)
from freerun.models.huggingface.steps import CacheSteps, SlotMask, make_static_steps
from freerun.models.huggingface.writer import CacheEraser, CacheWriter
from freerun.policy import Policy
from freerun.vocabulary import Vocabulary

_LOGGER = logging.getLogger(__name__)

Inputs = Int[Tensor, "n q"] | Float[Tensor, "n q e"]


class HuggingFacePolicy(Policy):
    """A Hugging Face model as a policy.

    The model's `generation_config` is not used; the one that is saved describes greedy decoding.
    Gradients flow through `step` and `force`.

    Subclasses adapt families of models; `CausalPolicy` and `Seq2SeqPolicy` cover most of them. If a
    model computes its scores in another way, override `project`; if it takes masks, positions or
    caches in another way, override `read`. See `register_policy`.

    Args:
        model: the model, or a PeftModel around it; it is not copied.
        vocabulary: the tokens that it writes: the first columns of its scores.
        limit: the maximum number of tokens of an output, eos included.
        shared: whether sources use the tokens of targets. If not, token i of a source has the id
            `vocabulary.size` + i in the model.
        prefix: the tokens that the decoder of an encoder-decoder reads before bos in every row,
            such as those of a language and a task; they are neither learned nor written.

    Attributes:
        reads_trees: whether the model reads trees of prefixes, and can withdraw tokens. Models with
            relative positions that count slots (T5, Bloom), or a sliding window (Mistral), do not.

    Raises:
        ValueError: if the model has fewer tokens than the vocabulary, its prompts are learned, or
            its scores differ from those of its own forward pass.
        torch.OutOfMemoryError: if memory is not sufficient to check the scores of a few short rows.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Vocabulary,
        *,
        limit: int,
        shared: bool = True,
        prefix: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        # Only a PeftModel has an active_peft_config, and only some of these learn prompts.
        if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError("adapters that learn a prompt cannot be used; LoRA can")
        self.model, self.vocabulary = model, vocabulary
        self.max_new_tokens, self.shared, self.prefix = limit, shared, tuple(prefix)
        if prefix and not self.config.is_encoder_decoder:
            raise ValueError("only the decoder of an encoder-decoder has a prefix")
        # Counted by the weight, as tables that peft has wrapped have no num_embeddings.
        rows = self.decoder.get_input_embeddings().weight.shape[0]
        if rows < vocabulary.size:
            raise ValueError(
                f"the model has {rows} tokens, fewer than the {vocabulary.size} of the vocabulary; "
                "see resize_token_embeddings"
            )
        if switch_off_layer_drop(self.inner):
            _LOGGER.warning(
                "%s drops whole layers in training (layerdrop); this is switched off, as a row "
                "could not be continued where one was dropped",
                type(self.inner).__name__,
            )
        self.max_positions = self.find_max_positions()
        self.max_source_length = self.find_max_source_length()
        self.static_steps: CacheSteps | None = None
        check_scores(self)
        self.training = self.inner.training

    @cached_property
    def reads_trees(self) -> bool:  # type: ignore[override]
        """Whether the model reads trees of prefixes; found by trying on first use."""
        # While this is being tried, `force` must accept trees.
        self.__dict__["reads_trees"] = True
        try:
            return can_read_trees(self)
        finally:
            del self.__dict__["reads_trees"]

    @property
    def can_withdraw(self) -> bool:  # type: ignore[override]
        """Whether tokens can be withdrawn: a model that reads trees can."""
        return self.reads_trees

    @cached_property
    def continues_rows(self) -> bool:
        """Whether rows can continue a state by several tokens at once; found by trying."""
        return can_continue_rows(self)

    @property
    def inner(self) -> PreTrainedModel:
        """The model itself, without a PeftModel around it."""
        unwrap: Any = getattr(self.model, "get_base_model", None)  # only a PeftModel has it
        found: Any = self.model if unwrap is None else unwrap()
        return cast("PreTrainedModel", found)

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return self.inner.config

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.inner.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.inner.dtype

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Save the model, or only its adapters, in the format of its library.

        Its generation config describes how freerun evaluates it: greedy decoding, its eos and its
        maximum length (see `make_generation_config`).
        """
        model: Any = self.model
        inner, config = self.inner, self.generation_settings
        can_generate = getattr(inner, "generation_config", None) is not None
        # Marian and Pegasus do not save their positions, even if they were trained.
        changes: dict[str, object] = {"_keys_to_ignore_on_save": None}
        changes |= {"generation_config": config} if can_generate else {}
        before = {name: getattr(inner, name) for name in changes}
        kept = dict(vars(inner.config))
        try:
            for name, value in changes.items():
                setattr(inner, name, value)
            for name in find_misplaced_settings(inner.config):
                delattr(inner.config, name)
            if self.vocabulary.eos is not None and hasattr(inner.config, "eos_token_id"):
                inner.config.eos_token_id = self.vocabulary.eos  # which other programs read
            model.save_pretrained(str(folder), **adapter_save_options(model), **kwargs)
        finally:
            for name, value in before.items():
                setattr(inner, name, value)
            vars(inner.config).update(kept)
        if can_generate:
            config.save_pretrained(str(folder))  # which adapters do not save

    @property
    def generation_settings(self) -> GenerationConfig:
        """The settings with which `generate` of transformers decodes greedily as freerun does."""
        return make_generation_config(self.inner, self.vocabulary, self.max_new_tokens, self.prefix)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the model.

        transformers' Trainer reads several of them, such as those of gradient checkpointing.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "model" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self.model, name)

    @cached_property
    def decoder(self) -> PreTrainedModel:
        """The layers that read targets, without a head."""
        return find_decoder(self.inner)

    @cached_property
    def position_table(self) -> PositionTable | None:
        """The table in which the decoder looks positions up; None if it has none."""
        return find_position_table(self.decoder, self.config)

    @cached_property
    def first_position(self) -> int | None:
        """The `position_ids` of position 0; None if the decoder does not take any.

        RoBERTa's positions count from the id of its padding on.
        """
        if not takes_positions(self.decoder):
            return None
        ids = torch.arange(PROBE_LENGTH, device=self.device)[None]
        table = self.position_table
        given = None if table is None else find_position_table(self.decoder, self.config, ids)
        return table.first - given.first if table and given else 0

    def find_max_positions(self) -> int | None:
        """Return the maximum number of positions of a row; None if unbounded."""
        return None if self.position_table is None else self.position_table.size

    def find_max_source_length(self) -> int | None:
        """Return the maximum number of tokens that an encoder reads; None if unbounded."""
        return None

    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """Return embeddings of tokens, or of mixtures of tokens, given a weight per action."""
        embedding = self.decoder.get_input_embeddings()
        if not weights.is_floating_point():
            return embedding(weights)
        # By calling the module: its weight may be sharded, and some modules scale their output.
        table = embedding(torch.arange(self.vocabulary.actions, device=weights.device))
        return weights @ table.to(weights.dtype)

    def step(  # type: ignore[override]  # a policy steps the states that it made
        self, state: CacheState, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n a"], CacheState]:
        """Read one input per row; return the scores of the next token and the new state.

        Beyond the positions of the model (see `limit`), scores are NaN.

        Raises:
            ValueError: under gradient checkpointing in training mode.
        """
        hidden, state = self.advance(state, inputs)
        return self.project(hidden), state

    def advance(  # type: ignore[override]  # as in step
        self, state: CacheState, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], CacheState]:
        """Read one input per row; return the last hidden states and the new state."""
        self.check_cache()
        # Cell 0 of a causal model reads the last token of its prompt in place of bos.
        if state.first is not None:
            embedded = inputs.is_floating_point()
            inputs = self.embed(state.first).to(inputs.dtype) if embedded else state.first
        mask = state.mask
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position, beyond = self.clip_positions(state.position[:, None], state.past.used)
        hidden, past, encoder = self.read_slot(
            inputs[:, None], position, mask, state.past, state.encoder
        )
        hidden = hidden[:, -1] if beyond is None else hidden[:, -1].masked_fill(beyond, torch.nan)
        return hidden, CacheState(past, mask, state.position + 1, None, encoder)

    def clip_positions(
        self, position: Int[Tensor, "n 1"], used: int
    ) -> tuple[Int[Tensor, "n 1"], Bool[Tensor, "n 1"] | None]:
        """Return positions clipped to those of the model, and which were clipped; None if none.

        A row beyond them may have ended and not be dropped yet, so this is not an error.

        Args:
            position: the positions of the next slot.
            used: the number of slots before it, which no position exceeds.
        """
        if self.max_positions is None or used < self.max_positions:
            return position, None
        return position.clamp(max=self.max_positions - 1), position >= self.max_positions

    def project(self, hidden: Float[Tensor, "*rows h"]) -> Float[Tensor, "*rows a"]:
        """Return the scores of the actions, as the model's own forward pass computes them.

        Of `hidden`, only the states that are needed are projected.
        """
        model = self.inner
        if self.head_scale is None:
            scores = run_head(model, self.decoder, hidden)
        else:
            hidden = hidden if self.head_scale == 1 else hidden * self.head_scale
            scores = model.get_output_embeddings()(hidden)
        return scores[..., : self.vocabulary.actions]

    @property
    def hidden_size(self) -> int:
        """The number of values of a hidden state, which the head reads."""
        if self.head_scale is not None:
            return int(self.inner.get_output_embeddings().in_features)
        return int(self.decoder.config.hidden_size)

    @cached_property
    def head_scale(self) -> float | None:
        """The factor of hidden states, if the head is only its output layer of them; else None."""
        return find_head_scale(self.inner, self.decoder)

    def prepare_sources(self, state: CacheState) -> CacheState:
        """Return a state of which rows can be repeated without a copy of their sources, if it can.

        By default the state itself.
        """
        return state

    def writer(self) -> CacheWriter:
        """Return a writer that drops rows when this saves time, and stores no scores."""
        return CacheWriter(self)

    def capture_steps(self, **options: Any) -> None:
        """Decode by static steps from now on; see `Policy.capture_steps`.

        There is one graph for each number of rows (rounded up by a quarter at most), of slots (a
        power of 2) and of positions of sources (rounded as rows are), each with its own keys and
        values.

        Raises:
            ValueError: if keys and values in buffers of constant shape change what the model
                writes, or its steps wait for the device.
        """
        self.static_steps = None  # static steps are compared with others
        self.static_steps = make_static_steps(self, options)

    def eraser(self, source: Source) -> CacheEraser:
        """Return rows that write and withdraw tokens, before cell 0.

        Raises:
            ValueError: if the model would misplace tokens after some were withdrawn.
        """
        if not self.can_withdraw:
            name = type(self.inner).__name__
            raise ValueError(
                f"{name} cannot withdraw tokens: it has relative positions that count slots, or a "
                "sliding window; use a model with absolute or rotary positions and without a window"
            )
        return CacheEraser(self, self.start(source))

    def add_backspace(self, vocabulary: Vocabulary, limit: int | None = None) -> None:
        """Add the rows of a backspace to the model: the means of those of all other actions.

        Raises:
            ValueError: if the model cannot have them; the message says why.
        """
        from freerun.models.backspace import extend_model  # which imports this module

        self.model = extend_model(self.model, vocabulary, shared=self.shared)
        self.vocabulary = vocabulary
        if limit is not None:
            self.max_new_tokens = limit

    def limit(self, source: Source) -> Int[Tensor, "b"]:
        """Return the limit, or the number of positions left by the source if that is less.

        Raises:
            ValueError: if a source leaves no position to write at.
        """
        limits = torch.full_like(source.lengths, self.max_new_tokens)
        if self.max_positions is None:
            return limits
        left = self.max_positions - self.prompt_lengths(source)
        row = int(left.argmin())
        if left[row] < 1:
            raise ValueError(
                f"the source of row {row} has {int(source.lengths[row])} tokens, which leaves none "
                f"of the {self.max_positions} positions of the model to write at; shorten it"
            )
        return torch.minimum(limits, left)

    def make_example_source(self, lengths: Sequence[int]) -> Source:
        """Return plausible sources of these lengths, with which the model is checked."""
        table = self.inner.get_input_embeddings().weight.shape[0]
        tokens = self.vocabulary.actions if self.shared else table - self.vocabulary.size
        cells = torch.arange(max(lengths), device=self.device)
        rows = torch.arange(len(lengths), device=self.device)[:, None]
        mask = cells < torch.tensor(lengths, device=self.device)[:, None]
        return Source((7 * rows + 3 * cells + 1) % max(tokens, 1), mask)

    def name_inputs(self, source: Source) -> dict[str, Tensor]:
        """Return sources without padding as arguments of the model's own forward pass."""
        tokens = source.values if self.shared else source.values + self.vocabulary.size
        return {"input_ids": tokens}

    @abstractmethod
    def start(self, source: Source) -> CacheState:
        """Return the state of every sentence before cell 0."""

    @abstractmethod
    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> CacheTrace:
        """Read whole rows of inputs in one pass."""

    def force_outputs(
        self, source: Source, rows: Int[Tensor, "n"], inputs: Int[Tensor, "n t"]
    ) -> CacheTrace:
        """Read rows of inputs, of which row i follows source `rows[i]`.

        Each prompt is read once, and each source is encoded once, if the model stores keys and
        values, and can continue them by several tokens at once.
        """
        if self.uses_cache and self.continues_rows:
            return self.continue_rows(self.start(source).select(rows), inputs)
        return self.force(source.select(rows), inputs)

    def continue_rows(self, state: CacheState, inputs: Int[Tensor, "n t"]) -> ContinuedTrace:
        """Read whole rows of inputs after a state, in one pass."""
        if state.first is not None:
            inputs = torch.cat([state.first[:, None], inputs[:, 1:]], 1)
        slots = torch.arange(inputs.shape[1], device=inputs.device)
        positions, mask = state.position[:, None] + slots, state.mask
        if self.max_positions is not None:
            positions = positions.clamp(max=self.max_positions - 1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(inputs.shape)], 1)
        hidden, past, encoder = self.read(inputs, positions, mask, state.past, state.encoder)
        head = self.project, self.vocabulary.actions, self.max_positions
        return ContinuedTrace(hidden, state.position, None, past, encoder, *head)

    @abstractmethod
    def read(
        self,
        inputs: Inputs,
        positions: Int[Tensor, "n q"],
        mask: Bool[Tensor, "n l"] | Float[Tensor, "n 1 q l"] | None,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n q h"], KeyValues, EncoderOutputs | None]:
        """Run the decoder over new slots. All passes of the model go through here.

        Args:
            inputs: tokens or embeddings.
            positions: the position of each.
            mask: true on the slots to attend to, old and new; or the numbers to add to the
                attention scores between each new slot and every slot; None to attend to all.
            past: the old slots, which are not changed.
            encoder: the outputs of the encoder, if there is one.

        Returns:
            The last hidden states, and `past` and `encoder` after the pass.
        """

    def read_slot(
        self,
        inputs: Int[Tensor, "n 1"] | Float[Tensor, "n 1 e"],
        positions: Int[Tensor, "n 1"],
        mask: SlotMask,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n 1 h"], KeyValues, EncoderOutputs | None]:
        """Run the decoder over one new slot, as `read` does; by a static step if there is one."""
        # The first pass makes the buffers of later ones, and the keys and values of sources.
        begun = past.used > 0 and (encoder is None or encoder.cross.used > 0)
        plain = inputs.is_floating_point() or torch.is_grad_enabled() or self.inner.training
        if self.static_steps is None or plain or not begun:
            return self.read(inputs, positions, mask, past, encoder)
        return self.static_steps.read(self, inputs, positions, mask, past, encoder)

    def run_decoder(self, positions: Int[Tensor, "n q"], **kwargs: Any) -> Any:
        """Run the layers that read targets, with every token at its given position."""
        table = self.position_table
        block: AbstractContextManager[None] = nullcontext()
        if self.first_position is not None:
            kwargs["position_ids"] = positions + self.first_position
        elif table is not None:
            # The decoder would count slots, the same for every row, or derive positions from
            # padding (M2M100).
            block = replace_forward(table.module, lambda *_, **__: table.look_up(positions))
        with block:
            return self.call_decoder(**kwargs)

    def call_decoder(self, *, past_key_values: Any, **kwargs: Any) -> Any:
        """Run the layers that read targets, with the cache under the name that they have for it."""
        return self.decoder(**{self._cache_name: past_key_values}, **kwargs)

    @cached_property
    def _cache_name(self) -> str:
        """The decoder's argument for the cache: `cache` from transformers 5.24 on."""
        named = signature(type(self.decoder).forward).parameters
        return "cache" if "cache" in named else "past_key_values"

    @property
    def uses_cache(self) -> bool:
        """Whether a pass keeps keys and values: not under gradient checkpointing in training."""
        if not self.inner.training:
            return True
        return not any(module.gradient_checkpointing for module in self._checkpointing_modules)

    @cached_property
    def _checkpointing_modules(self) -> tuple[Any, ...]:
        """The modules with a flag of gradient checkpointing: only those that can be checkpointed.

        They are listed once, as a walk over all modules takes as long as a step of a small model.
        """
        return tuple(m for m in self.inner.modules() if hasattr(m, "gradient_checkpointing"))

    def check_trees(self, parents: Int[Tensor, "b t"] | None) -> None:
        """Check that trees can be read, if there are any.

        Raises:
            ValueError: if they cannot.
        """
        if parents is not None and not self.reads_trees:
            name = type(self.inner).__name__
            raise ValueError(
                f"{name} cannot read trees of prefixes: it would misplace their tokens"
            )

    def check_cache(self) -> None:
        """Check that keys and values are kept.

        Raises:
            ValueError: if they are not.
        """
        if not self.uses_cache:
            raise ValueError(NO_CACHE)
