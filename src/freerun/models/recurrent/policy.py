"""The recurrent encoder-decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from freerun.batch import Source
from freerun.models.recurrent.attention import Attention
from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.layers import Layered, RecurrentDecoder, RecurrentEncoder
from freerun.models.recurrent.state import RecurrentState, RecurrentTrace, read_tree
from freerun.models.recurrent.steps import MAX_ROWS, RecurrentSteps
from freerun.models.recurrent.writer import RecurrentWriter, StackEraser, StaticWriter
from freerun.policy import Policy, Writer
from freerun.vocabulary import Vocabulary


class RecurrentPolicy(PreTrainedModel, Policy):
    """A GRU or LSTM encoder-decoder as a policy (see `RecurrentConfig`).

    Raises:
        ValueError: if the configuration names no symbols to write.
    """

    config: RecurrentConfig
    post_init: Callable[[], None]
    config_class = RecurrentConfig
    base_model_prefix = "recurrent"
    main_input_name = "source"
    supports_gradient_checkpointing = False
    reads_trees = True
    can_withdraw = True

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        if not config.symbols:
            raise ValueError("RecurrentConfig.symbols is empty: name the tokens to be written")
        self.vocabulary = config.vocabulary
        self.encoder = RecurrentEncoder(config)
        self.embedding = nn.Embedding(self.vocabulary.size, config.embedding_size)
        self.decoder = RecurrentDecoder(config)
        self.attention = None if config.attention == "none" else Attention(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, self.vocabulary.actions)
        self.static_steps: RecurrentSteps | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initial weights of torch's own modules."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> RecurrentPolicy:
        """Load a policy that `save_pretrained` saved; only safetensors are read.

        Raises:
            OSError: if there is no file of safetensors.
            ValueError: if its weights are not exactly those of this model.
        """
        # transformers would draw weights that are missing or have other shapes anew; here all
        # differences are errors, which takes ignoring them first.
        kwargs |= {"use_safetensors": True, "ignore_mismatched_sizes": True}
        model, found = super().from_pretrained(*args, **kwargs, output_loading_info=True)
        faults = [f"{name} is missing" for name in sorted(found["missing_keys"])]
        faults += [f"{name} is unknown" for name in sorted(found["unexpected_keys"])]
        faults += [
            f"{name} has shape {list(stored)} instead of {list(wanted)}"
            for name, stored, wanted in sorted(found["mismatched_keys"])
        ]
        if faults:
            raise ValueError(f"the weights are not those of this model: {faults[0]}")
        return model

    def forward(
        self,
        source: Tensor,
        source_mask: Bool[Tensor, "b s"],
        tokens: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b t a"]:
        """Return the scores after every prefix of `tokens`, the first of which is bos."""
        trace = self.force(Source(source, source_mask), tokens)
        return self.output(trace.outputs)

    def limit(self, source: Source) -> Int[Tensor, "b"]:
        """Return the configured limit; without eos there is none, and it is the source's length."""
        if self.config.limit is None:
            return source.lengths
        return torch.full_like(source.lengths, self.config.limit)

    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """Return embeddings of tokens, or of mixtures of tokens, given a weight per action."""
        if not weights.is_floating_point():
            return self.embedding(weights)
        # Through the module, as its weight may be sharded.
        actions = torch.arange(self.vocabulary.actions, device=weights.device)
        return weights @ self.embedding(actions).to(weights.dtype)

    def start(self, source: Source) -> RecurrentState:
        """Return the state of every sentence before bos."""
        outputs, hidden, cell = self.encoder(source)
        memory = None
        if self.attention is not None:
            memory = self.attention.make_memory(self.dropout(outputs), source.mask)
        rows = len(source.mask)
        feed = None
        if self.config.input_feeding:
            feed = outputs.new_zeros(rows, self.config.hidden_size)
        position = torch.zeros(rows, dtype=torch.long, device=outputs.device)
        return RecurrentState(
            tuple(hidden), () if cell is None else tuple(cell), feed, position, memory
        )

    def step(  # type: ignore[override]  # a policy steps the states that it made
        self, state: RecurrentState, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n a"], RecurrentState]:
        """Read one input per row; return the scores of the next token and the new state."""
        outputs, state = self.advance(state, inputs)
        return self.output(outputs), state

    def advance(  # type: ignore[override]  # as in step
        self, state: RecurrentState, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], RecurrentState]:
        """Read one input per row; return the attentional outputs and the new state."""
        plain = inputs.is_floating_point() or torch.is_grad_enabled() or self.training
        if self.static_steps is None or plain or len(inputs) > MAX_ROWS:
            return self.advance_plainly(state, inputs)
        return self.static_steps.advance(self, state, inputs)

    def advance_plainly(
        self, state: RecurrentState, inputs: Int[Tensor, "n"] | Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], RecurrentState]:
        """Read one input per row as `advance` does, without a static step."""
        return self._step(state, self._embed_inputs(inputs))

    def project(self, hidden: Float[Tensor, "*rows h"]) -> Float[Tensor, "*rows a"]:
        """Return the scores of the actions from attentional outputs."""
        return self.output(hidden)

    @property
    def hidden_size(self) -> int:
        """The number of values of an attentional output."""
        return self.output.in_features

    def force(
        self,
        source: Source,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None = None,
    ) -> RecurrentTrace:
        """Read whole rows: in one pass, or step by step with input feeding or trees of prefixes.

        Raises:
            ValueError: if a parent does not come before its input.
        """
        return self._read(self.start(source), inputs, parents)

    def force_outputs(
        self, source: Source, rows: Int[Tensor, "n"], inputs: Int[Tensor, "n t"]
    ) -> RecurrentTrace:
        """Read rows of inputs, of which row i follows source `rows[i]`; each is encoded once."""
        return self._read(self.start(source).select(rows), inputs, None)

    def _read(
        self,
        state: RecurrentState,
        inputs: Int[Tensor, "b t"] | Float[Tensor, "b t e"],
        parents: Int[Tensor, "b t"] | None,
    ) -> RecurrentTrace:
        embedded = self._embed_inputs(inputs)
        cells = torch.arange(embedded.shape[1], device=embedded.device).expand(embedded.shape[:2])
        if parents is None and state.feed is not None:
            parents = cells - 1
        if parents is not None:
            outputs, after = read_tree(self._step, state, embedded, parents)
            return RecurrentTrace(outputs, self.output, self.vocabulary.actions, lambda: after)
        top, reads, hidden = self.decoder(embedded, state.hidden, state.cell)
        outputs = self._attend(top, cells, state)
        states = partial(self._collect_states, state, reads, hidden)
        return RecurrentTrace(outputs, self.output, self.vocabulary.actions, states)

    def writer(self) -> Writer:
        """Return a writer with the weights as they are now."""
        return RecurrentWriter(self) if self.static_steps is None else StaticWriter(self)

    def capture_steps(self, **options: Any) -> None:
        """Decode by static steps from now on; see `Policy.capture_steps`.

        There is one graph for each number of rows and of positions of sources, both rounded up by a
        quarter at most. More than 1,024 rows, as roll-outs may have, are decoded as before.

        Raises:
            ValueError: if there are options.
        """
        if options:
            raise ValueError(
                "steps of a recurrent policy cannot be compiled, as torch.compile supports no GRU "
                "and LSTM layers; call capture_steps() without options"
            )
        self.static_steps = RecurrentSteps(options)

    def eraser(self, source: Source) -> StackEraser:
        """Return rows that write and withdraw tokens, before bos."""
        return StackEraser(self, self.start(source))

    @torch.no_grad()
    def add_backspace(self, vocabulary: Vocabulary, limit: int | None = None) -> None:
        """Add the rows of a backspace, the last action: the means of those of all others."""
        old = self.vocabulary.actions

        def insert_mean(rows: Tensor) -> nn.Parameter:
            mean = rows[:old].mean(0, keepdim=True)
            extended = torch.cat([rows[:old], mean, rows[old:]])
            return nn.Parameter(extended, requires_grad=rows.requires_grad)

        self.embedding.weight = insert_mean(self.embedding.weight)
        self.output.weight = insert_mean(self.output.weight)
        self.output.bias = insert_mean(self.output.bias)
        self.embedding.num_embeddings = vocabulary.size
        self.output.out_features = vocabulary.actions
        self.config.set_vocabulary(vocabulary)
        self.vocabulary = vocabulary
        if limit is not None:
            self.config.limit = limit

    def _embed_inputs(
        self, inputs: Int[Tensor, "*rows"] | Float[Tensor, "*rows e"]
    ) -> Float[Tensor, "*rows e"]:
        return self.dropout(inputs if inputs.is_floating_point() else self.embed(inputs))

    def _attend(
        self,
        top: Float[Tensor, "n c h"],
        positions: Int[Tensor, "n c"],
        state: RecurrentState,
    ) -> Float[Tensor, "n c h"]:
        """Return attentional outputs, or the top hidden states if there is no attention."""
        if self.attention is None:
            return top
        return self.dropout(self.attention(top, positions, state.memory))

    def _step(
        self, state: RecurrentState, embedded: Float[Tensor, "n e"]
    ) -> tuple[Float[Tensor, "n h"], RecurrentState]:
        if state.feed is not None:
            embedded = torch.cat([embedded, state.feed], -1)
        top, hidden, cell = self.decoder.step(embedded, state.hidden, state.cell)
        outputs = self._attend(top[:, None], state.position[:, None], state)[:, 0]
        feed = None if state.feed is None else outputs.to(state.feed.dtype)
        position = state.position + 1
        return outputs, replace(state, hidden=hidden, cell=cell, feed=feed, position=position)

    def _collect_states(
        self, first: RecurrentState, reads: Layered, hidden: Layered
    ) -> RecurrentState:
        """Return the states after every cell of rows that were read in one pass, as rows b·t."""
        rows, length = hidden[0].shape[:2]
        cell: Layered = ()
        if first.cell:
            cell = self.decoder.find_cell_states(reads, first.hidden, first.cell, hidden)
        index = torch.arange(rows, device=hidden[0].device).repeat_interleave(length)
        return RecurrentState(
            tuple(layer.flatten(0, 1) for layer in hidden),
            tuple(layer.flatten(0, 1) for layer in cell),
            None,
            torch.arange(1, length + 1, device=index.device).repeat(rows),
            None if first.memory is None else first.memory.select(index),
        )
