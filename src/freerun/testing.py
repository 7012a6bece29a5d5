"""A test suite for policies, to run with pytest on your own policy.

Subclass `PolicyContract` in a test module, and define two fixtures::

    class TestMyPolicy(PolicyContract):
        @pytest.fixture
        def policy(self):
            return MyPolicy().eval()

        @pytest.fixture
        def batch(self):
            return Batch(...)

This is the only module of freerun that imports pytest. For detailed messages of failed assertions,
put `pytest.register_assert_rewrite("freerun.testing")` into `conftest.py`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.policy import Policy, State, Trace


def _everywhere(inputs: Tensor) -> Tensor:
    return torch.ones(inputs.shape[:2], dtype=torch.bool)


class PolicyContract:
    """Tests of what every policy promises: scores, states, forks, padding, gradients, embeddings.

    Fixtures to define:
        policy: the policy, in evaluation mode.
        batch: a `Batch` with at least three rows, and sources and targets of different lengths.
            Sources must differ in their first token, the longest target must have at least three
            cells, and the model must depend on every token of a prefix.

    Attributes:
        tolerance: the maximum absolute difference of scores that are computed in two ways.
        reads_bos: whether cell 0 reads its input. A causal model without bos reads the last token
            of its prompt instead.
    """

    tolerance: float = 1e-12
    reads_bos: bool = True

    @property
    def first(self) -> int:
        """The first cell that reads its input."""
        return 0 if self.reads_bos else 1

    @pytest.fixture
    def inputs(self, policy: Policy, batch: Batch) -> Tensor:
        return batch.inputs(policy.vocabulary.bos)

    @pytest.fixture
    def scores(self, policy: Policy, batch: Batch, inputs: Tensor) -> Tensor:
        """The scores at all cells, including padding, [b, t, a], from one forced pass."""
        return self.score_rows(policy, batch.source, inputs)

    def assert_close(self, actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=self.tolerance)

    def score_rows(
        self, policy: Policy, source: Source, inputs: Tensor, parents: Tensor | None = None
    ) -> Tensor:
        trace = policy.force(source, inputs, parents)
        return trace.logits(_everywhere(inputs)).unflatten(0, inputs.shape[:2])

    def score_steps(self, policy: Policy, state: State, inputs: Tensor) -> Tensor:
        found = []
        for cell in range(inputs.shape[1]):
            scores, state = policy.step(state, inputs[:, cell])
            found.append(scores)
        return torch.stack(found, 1)

    def read_prompt(self, policy: Policy, source: Source, inputs: Tensor) -> State:
        """The state before the first cell that reads its input."""
        state = policy.start(source)
        for cell in range(self.first):
            _, state = policy.step(state, inputs[:, cell])
        return state

    # The members of the protocol

    def test_is_a_policy(self, policy: Policy, batch: Batch, inputs: Tensor) -> None:
        assert isinstance(policy, Policy)
        assert isinstance(policy.start(batch.source), State)
        assert isinstance(policy.force(batch.source, inputs), Trace)

    def test_limit_is_that_of_each_row(self, policy: Policy, batch: Batch) -> None:
        limit = policy.limit(batch.source)
        assert limit.shape == batch.source.lengths.shape
        assert bool((limit >= 1).all())
        if policy.vocabulary.eos is None:
            assert limit.tolist() == batch.source.lengths.tolist()

    def test_scores_have_a_column_for_every_action(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        assert scores.shape == (*inputs.shape, policy.vocabulary.actions)
        assert bool(scores.isfinite().all())

    def test_logits_are_those_of_the_cells_asked_for(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        trace = policy.force(batch.source, inputs)
        self.assert_close(trace.logits(batch.mask), scores[batch.mask])
        last = torch.zeros_like(batch.mask)
        last[-1, 0] = last[0, 1] = True
        self.assert_close(trace.logits(last), torch.stack([scores[0, 1], scores[-1, 0]]))
        none = trace.logits(torch.zeros_like(batch.mask))
        assert none.shape == (0, policy.vocabulary.actions)

    # Steps and whole rows

    def test_forced_rows_score_as_steps_do(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        self.assert_close(self.score_steps(policy, policy.start(batch.source), inputs), scores)

    def test_the_same_pass_twice_scores_the_same(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        assert torch.equal(self.score_rows(policy, batch.source, inputs), scores)

    def test_a_step_leaves_the_state_as_it_was(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        _, state = policy.step(policy.start(batch.source), inputs[:, 0])
        first, _ = policy.step(state, inputs[:, 1])
        policy.step(state, inputs[:, 0])
        again, _ = policy.step(state, inputs[:, 1])
        assert torch.equal(first, again)

    @pytest.mark.parametrize("gradients", [True, False])
    def test_states_live_on(
        self, policy: Policy, batch: Batch, inputs: Tensor, gradients: bool
    ) -> None:
        """A state can be continued several times, in any order, even after rows were selected."""
        rows, actions = torch.tensor([2, 0, 2]), policy.vocabulary.actions
        inputs = torch.cat([inputs, inputs[:, 1:2]], 1)
        length = inputs.shape[1]
        with torch.set_grad_enabled(gradients):
            states = [policy.start(batch.source)]
            for cell in range(length - 1):
                states.append(policy.step(states[-1], inputs[:, cell])[1])
            chosen = [state.select(rows) for state in states]
            for turn in (0, 1, 0):
                for cell in reversed(range(length)):
                    tokens = inputs.clone()  # with another end, from each cell, every second turn
                    tokens[:, cell:] = (tokens[:, cell:] + turn) % actions
                    expected = self.score_rows(policy, batch.source, tokens)[:, cell:]
                    found = self.score_steps(policy, states[cell], tokens[:, cell:])
                    self.assert_close(found, expected)
                    found = self.score_steps(policy, chosen[cell], tokens[rows, cell:])
                    self.assert_close(found, expected[rows])

    def test_cell_0_reads_what_it_is_given(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        """If not, it reads the last token of its source, whatever its input is."""
        changed = inputs.clone()
        changed[:, 0] = (changed[:, 0] + 1) % policy.vocabulary.actions
        found = self.score_rows(policy, batch.source, changed)
        if self.reads_bos:
            assert bool(((found - scores).abs().amax((1, 2)) > 0).all())
            return
        self.assert_close(found, scores)
        self.assert_close(self.score_steps(policy, policy.start(batch.source), changed), scores)
        embedded = policy.embed(inputs)
        noise = torch.rand(embedded.shape[::2], generator=torch.Generator().manual_seed(0))
        changed = torch.cat([noise[:, None].to(embedded.dtype), embedded[:, 1:]], 1)
        self.assert_close(self.score_rows(policy, batch.source, changed), scores)

    def test_a_prefix_is_scored_without_what_follows(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        actions = policy.vocabulary.actions
        for cell in range(1, inputs.shape[1]):
            changed = inputs.clone()
            changed[:, cell:] = (changed[:, cell:] + 1) % actions
            found = self.score_rows(policy, batch.source, changed)
            self.assert_close(found[:, :cell], scores[:, :cell])

    def test_every_token_of_a_prefix_matters(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        embedded = policy.embed(inputs).detach().requires_grad_()
        scores = self.score_rows(policy, batch.source, embedded)
        for cell in range(self.first, inputs.shape[1]):
            (gradient,) = torch.autograd.grad(
                scores[:, cell].square().sum(), embedded, retain_graph=True
            )
            read = gradient.abs().amax(-1) > 0
            assert bool(read[:, self.first : cell + 1].all())
            assert not bool(read[:, : self.first].any())
            assert not bool(read[:, cell + 1 :].any())

    def test_the_source_matters(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        order = torch.arange(len(batch.ids)).roll(1)
        other = self.score_rows(policy, batch.source.select(order), inputs)
        assert bool(((other - scores).abs().amax((1, 2)) > 0).all())

    # Forks and selection

    def test_a_fork_goes_on_from_any_cell(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        count, length = inputs.shape
        rows = torch.arange(count).repeat_interleave(length)
        cells = torch.arange(length).repeat(count)
        mixed = torch.randperm(count * length, generator=torch.Generator().manual_seed(0))
        rows, cells = rows[mixed], cells[mixed]
        state = policy.force(batch.source, inputs).fork(rows, cells)
        actions = policy.vocabulary.actions
        more = torch.stack([torch.arange(len(rows)) % actions, cells % actions], 1)
        found = self.score_steps(policy, state, more)
        for i, (row, cell) in enumerate(zip(rows.tolist(), cells.tolist(), strict=True)):
            longer = torch.cat([inputs[row, : cell + 1], more[i]])[None]
            source = batch.source.select(torch.tensor([row]))
            self.assert_close(found[i], self.score_rows(policy, source, longer)[0, -2:])

    def test_rows_may_be_forked_many_times(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        trace = policy.force(batch.source, inputs)
        rows, cells = torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        tokens = torch.tensor([0, 1, 0, 0])
        together, _ = policy.step(trace.fork(rows, cells), tokens)
        for i in range(len(rows)):
            alone = trace.fork(rows[i : i + 1], cells[i : i + 1])
            self.assert_close(together[i : i + 1], policy.step(alone, tokens[i : i + 1])[0])

    def test_forks_that_fit_into_memory_are_counted(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        trace = policy.force(batch.source, inputs)
        counts = [trace.max_forks(length) for length in (1, 100)]
        if counts != [None, None]:
            shorter, longer = (int(count or 0) for count in counts)
            assert 1 <= longer <= shorter

    def test_a_fork_keeps_the_gradient_to_its_prefix(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        embedded = policy.embed(inputs).detach().requires_grad_()
        state = policy.force(batch.source, embedded).fork(torch.tensor([0]), torch.tensor([1]))
        scores, _ = policy.step(state, torch.tensor([0]))
        (gradient,) = torch.autograd.grad(scores.square().sum(), embedded)
        read = gradient.abs().amax(-1) > 0
        assert read[0, self.first : 2].all()
        assert not read[0, 2:].any()
        assert not read[1:].any()

    # Several outputs of a source

    def test_outputs_that_share_sources_score_as_if_alone(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        rows, outputs = torch.tensor([2, 0, 0, 1, 2]), inputs[[0, 1, 2, 0, 1]]
        everywhere = _everywhere(outputs)

        def differentiate(trace: Trace) -> tuple[Tensor, list[Tensor | None]]:
            scores = trace.logits(everywhere)
            total = scores.square().sum()
            parameters = [each for each in policy.parameters() if each.requires_grad]
            if not parameters:
                return scores, []
            return scores, list(torch.autograd.grad(total, parameters, allow_unused=True))

        alone, expected = differentiate(policy.force(batch.source.select(rows), outputs))
        shared, found = differentiate(policy.force_outputs(batch.source, rows, outputs))
        self.assert_close(shared, alone)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                scale = 1 + float(other.abs().max())
                self.assert_close(one / scale, other / scale)

    def test_outputs_that_share_sources_are_forked(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        rows, outputs = torch.tensor([2, 0, 0, 1]), inputs[[0, 1, 2, 0]]
        places, cells = torch.tensor([3, 0, 2, 2, 1]), torch.tensor([1, 0, 1, 2, 0])
        more = torch.stack([torch.arange(5) % policy.vocabulary.actions, cells], 1)
        shared = policy.force_outputs(batch.source, rows, outputs).fork(places, cells)
        alone = policy.force(batch.source.select(rows), outputs).fork(places, cells)
        found, expected = (self.score_steps(policy, state, more) for state in (shared, alone))
        self.assert_close(found, expected)

    def test_selection_picks_repeats_and_reorders(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        _, state = policy.step(policy.start(batch.source), inputs[:, 0])
        rows = torch.tensor([2, 0, 0, 1, 2])
        whole = self.score_steps(policy, state, inputs[:, 1:])
        chosen = self.score_steps(policy, state.select(rows), inputs[rows, 1:])
        self.assert_close(chosen, whole[rows])
        twice = state.select(rows).select(torch.tensor([3, 0]))
        self.assert_close(self.score_steps(policy, twice, inputs[[1, 2], 1:]), whole[[1, 2]])

    def test_selection_keeps_gradients(self, policy: Policy, batch: Batch, inputs: Tensor) -> None:
        """A row that is repeated gathers the gradients of its copies."""

        def gradient(rows: Tensor, weights: Tensor) -> Tensor:
            embedded = policy.embed(inputs[:, self.first]).detach().requires_grad_()
            _, state = policy.step(self.read_prompt(policy, batch.source, inputs), embedded)
            scores, _ = policy.step(state.select(rows), torch.zeros(len(rows), dtype=torch.long))
            loss = (scores.square().sum(-1) * weights).sum()
            return torch.autograd.grad(loss, embedded)[0]

        rows, one = torch.tensor([1, 0, 1]), torch.ones((), dtype=torch.float64)
        found = gradient(rows, torch.tensor([2.0, 3.0, 5.0]))
        assert not found[2:].any()
        self.assert_close(found[1], 7 * gradient(torch.tensor([1]), one)[1])
        self.assert_close(found[0], 3 * gradient(torch.tensor([0]), one)[0])

    # Hidden states

    def test_hidden_states_are_what_is_projected(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        if type(policy).advance is Policy.advance:
            pytest.skip("the policy has no hidden states")
        trace = policy.force(batch.source, inputs)
        hidden = trace.hidden(batch.mask)
        self.assert_close(policy.project(hidden), scores[batch.mask])
        assert hidden.shape[1] == policy.hidden_size
        state = policy.start(batch.source)
        for cell in range(inputs.shape[1]):
            stepped, state = policy.advance(state, inputs[:, cell])
            self.assert_close(policy.project(stepped), scores[:, cell])
        prompt = trace.prompt_hidden()
        if prompt is not None:
            states, mask = prompt
            assert states.shape[:2] == mask.shape
            assert mask.sum(1).tolist() == policy.prompt_lengths(batch.source).tolist()

    # Writers

    def test_a_writer_writes_what_steps_would(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        """From forks that are repeated in any order, with and without a choice by scores."""
        generator = torch.Generator().manual_seed(5)
        origins, cells = batch.mask.nonzero().unbind(1)
        rows = torch.randint(len(cells), (50,), generator=generator)
        trace = policy.force(batch.source, inputs)
        tokens = torch.randint(policy.vocabulary.actions, (50,), generator=generator)
        seen = []

        def choose(scores: Tensor, which: Tensor) -> Tensor:
            seen.append((scores.clone(), which))
            return scores.argmin(1)

        with torch.no_grad():
            writer, state = policy.writer(), trace.fork(origins, cells)
            writer.begin(state, rows)
            state = state.select(rows)
            for step in range(4):
                scores, state = policy.step(state, tokens)
                if step % 2:
                    tokens = writer.write(tokens, choose)
                    self.assert_close(torch.cat([some for some, _ in seen]), scores)
                    assert torch.cat([which for _, which in seen]).tolist() == [*range(len(rows))]
                    assert torch.equal(tokens, scores.argmin(1))
                    seen.clear()
                else:
                    tokens = writer.write(tokens)
                    assert torch.equal(tokens, scores.argmax(1))
                stay = torch.arange(len(rows))[torch.rand(len(rows), generator=generator) < 0.7]
                writer.keep(stay)
                rows, tokens, state = rows[stay], tokens[stay], state.select(stay)

    def test_a_writer_leaves_what_it_begins_from(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        """Also after other rows: a writer is used again for the next chunk."""
        trace = policy.force(batch.source, inputs)
        rows, cells = torch.tensor([0, 2, 2]), torch.tensor([1, 0, 1])
        with torch.no_grad():
            writer = policy.writer()

            def write(some: Tensor, count: int) -> tuple[Tensor, Tensor]:
                state = trace.fork(rows, cells)
                writer.begin(state, some)
                tokens = torch.zeros(len(some), dtype=torch.long)
                for _ in range(count):
                    tokens = writer.write(tokens)
                return tokens, policy.step(state, torch.zeros(3, dtype=torch.long))[0]

            some = torch.tensor([2, 0, 1])
            first, before = write(some, 3)
            write(torch.tensor([1, 1, 1, 0, 0]), 2)
            again, after = write(some, 3)
        assert torch.equal(first, again)
        assert torch.equal(before, after)

    # Erasers

    def test_an_eraser_scores_what_remains(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        """After random tokens and withdrawals, in empty rows, and in rows that are kept."""
        if not policy.can_withdraw:
            with pytest.raises(ValueError, match="cannot withdraw tokens"):
                policy.eraser(batch.source)
            return
        generator = torch.Generator().manual_seed(6)
        rows = torch.arange(len(batch.ids))
        texts: list[list[int]] = [[] for _ in rows]
        tokens, withdraw = inputs[:, 0], torch.zeros_like(rows, dtype=torch.bool)
        with torch.no_grad():
            eraser = policy.eraser(batch.source)
            for turn in range(2 * inputs.shape[1]):
                scores = eraser.read(tokens, withdraw)
                for place, row in enumerate(rows.tolist()):
                    if turn and withdraw[place]:
                        texts[row] = texts[row][:-1]
                    elif turn:
                        texts[row] = [*texts[row], int(tokens[place])]
                    read = torch.tensor([[int(inputs[row, 0]), *texts[row]]])
                    alone = batch.source.select(torch.tensor([row]))
                    self.assert_close(scores[place], self.score_rows(policy, alone, read)[0, -1])
                if turn == 2:
                    rows = rows.flip(0)[:-1]
                    eraser.keep(torch.arange(len(batch.ids)).flip(0)[:-1])
                tokens = torch.randint(policy.vocabulary.actions, rows.shape, generator=generator)
                withdraw = torch.rand(rows.shape, generator=generator) < 0.5

    # Embeddings

    def test_a_one_hot_mixture_is_the_token(self, policy: Policy, batch: Batch) -> None:
        tokens = torch.arange(policy.vocabulary.actions)
        embedded = policy.embed(tokens)
        self.assert_close(policy.embed(torch.eye(len(tokens), dtype=embedded.dtype)), embedded)

    def test_a_mixture_is_the_weighted_sum(self, policy: Policy, batch: Batch) -> None:
        embedded = policy.embed(torch.arange(policy.vocabulary.actions))
        weights = torch.rand(2, 3, len(embedded), generator=torch.Generator().manual_seed(0))
        weights = weights.to(embedded.dtype).softmax(-1)
        expected = (weights[..., None] * embedded).sum(-2)
        self.assert_close(policy.embed(weights), expected)

    def test_embeddings_may_be_fed_for_tokens(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        embedded = policy.embed(inputs)
        self.assert_close(self.score_rows(policy, batch.source, embedded), scores)
        self.assert_close(self.score_steps(policy, policy.start(batch.source), embedded), scores)

    def test_the_gradient_of_a_mixture_reaches_its_weights(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        count, actions = len(batch.ids), policy.vocabulary.actions
        dtype = policy.embed(torch.tensor([0])).dtype
        weights = torch.full((count, actions), 1 / actions, dtype=dtype, requires_grad=True)
        state = self.read_prompt(policy, batch.source, inputs)
        scores, _ = policy.step(state, policy.embed(weights))
        (gradient,) = torch.autograd.grad(scores.square().sum(), weights)
        assert bool((gradient.abs().sum(-1) > 0).all())

    # Batches

    def test_source_padding_changes_nothing(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        source = batch.source
        junk = source.values[:, :1].flip(0).expand(-1, 3, *source.values.shape[2:])
        unread = torch.zeros(len(batch.ids), 3, dtype=torch.bool)
        wide = Source(torch.cat([source.values, junk], 1), torch.cat([source.mask, unread], 1))
        self.assert_close(self.score_rows(policy, wide, inputs), scores)
        found = source.values.clone()
        found[~source.mask] = source.values[0, 0]
        self.assert_close(self.score_rows(policy, Source(found, source.mask), inputs), scores)

    def test_target_padding_changes_nothing(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        more = torch.cat([inputs, inputs[:, :2]], 1)
        self.assert_close(self.score_rows(policy, batch.source, more)[:, :-2], scores)

    def test_the_order_of_a_batch_changes_nothing(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        order = torch.arange(len(batch.ids)).flip(0)
        found = self.score_rows(policy, batch.source.select(order), inputs[order])
        self.assert_close(found, scores[order])

    def test_a_row_alone_scores_as_in_its_batch(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        for row in range(len(batch.ids)):
            one: Batch = batch.select(torch.tensor([row]))
            length = one.source.lengths[0]
            source = Source(one.source.values[:, :length], one.source.mask[:, :length])
            found = self.score_rows(policy, source, inputs[row : row + 1, : one.lengths[0]])
            self.assert_close(found[0], scores[row, : one.lengths[0]])

    # Trees of prefixes

    def draw_tree(self, shape: torch.Size) -> Tensor:
        """Parents of inputs: any input before them, or the start."""
        generator = torch.Generator().manual_seed(4)
        cells = torch.arange(shape[1]).expand(shape)
        return (torch.rand(shape, generator=generator) * (cells + 1)).long() - 1

    def find_path(self, parents: Tensor, cell: int) -> list[int]:
        """The inputs from the start to `cell`."""
        return [*self.find_path(parents, int(parents[cell])), cell] if cell >= 0 else []

    def test_a_chain_of_parents_is_one_sequence(
        self, policy: Policy, batch: Batch, inputs: Tensor, scores: Tensor
    ) -> None:
        if policy.reads_trees:
            chain = torch.arange(-1, inputs.shape[1] - 1).expand_as(inputs)
            self.assert_close(self.score_rows(policy, batch.source, inputs, chain), scores)

    def test_every_path_of_a_tree_scores_as_if_alone(
        self, policy: Policy, batch: Batch, inputs: Tensor
    ) -> None:
        inputs = torch.cat([inputs, inputs.flip(1)], 1)
        parents = self.draw_tree(inputs.shape)
        if not policy.reads_trees:
            with pytest.raises((ValueError, NotImplementedError)):
                policy.force(batch.source, inputs, parents)
            return
        scores = self.score_rows(policy, batch.source, inputs, parents)
        trace = policy.force(batch.source, inputs, parents)
        for row in range(len(inputs)):
            source = batch.source.select(torch.tensor([row]))
            for cell in range(inputs.shape[1]):
                path = self.find_path(parents[row], cell)
                prefix = inputs[row, path][None]
                self.assert_close(scores[row, cell], self.score_rows(policy, source, prefix)[0, -1])
                forked = trace.fork(torch.tensor([row]), torch.tensor([cell]))
                longer = torch.cat([prefix, torch.tensor([[0]])], 1)
                found, _ = policy.step(forked, torch.tensor([0]))
                self.assert_close(found[0], self.score_rows(policy, source, longer)[0, -1])

    @pytest.mark.parametrize("parent", [-2, 1, 2])
    def test_a_parent_must_stand_before_its_input(
        self, policy: Policy, batch: Batch, inputs: Tensor, parent: int
    ) -> None:
        if not policy.reads_trees:
            return
        parents = torch.arange(-1, inputs.shape[1] - 1).repeat(len(inputs), 1)
        parents[-1, 1] = parent
        with pytest.raises(ValueError, match=r"^parents\[b, i\] must be -1 or .* before input i$"):
            policy.force(batch.source, inputs, parents)
