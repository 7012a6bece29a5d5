"""Actions that are not the policy's own: given ones, and planted errors."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.backspaces import any_token, remaining
from freerun.batch import Source
from freerun.decoding.choices import Choose, evaluation_mode
from freerun.decoding.loop import Decoded, checked_limit, run
from freerun.policy import Eraser, ErasingPolicy, Policy
from freerun.randomness import uniform
from freerun.vocabulary import Vocabulary


@torch.no_grad()
def backtrack(
    policy: Policy,
    source: Source,
    choose: Choose,
    limit: Int[Tensor, "n"] | None = None,
    *,
    once: bool = False,
) -> Decoded:
    """Write and withdraw by `choose(scores, rows, cell)`, to the end.

    An action is a token, eos, or a backspace, which withdraws the last token; where there is none,
    at the prompt, it does nothing. Scores are those after what remains; a cell is an action, and
    limits count actions, so that text is never longer and rows always end (Cundy and Ermon 2024,
    arXiv 2306.05426).

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        choose: from scores to actions and their log-probabilities.
        limit: the most actions of each row; by default the policy's own limit.
        once: whether what was withdrawn from a prefix is ruled out there, and a backspace where
            there is nothing to withdraw: their scores are -inf. A prefix tells all that the policy
            knows, so greedy decoding would else withdraw and write the same for ever. Once the last
            token of a prefix is itself withdrawn, nothing is ruled out after it any more.

    Raises:
        ValueError: where the vocabulary has no backspace or the policy cannot withdraw tokens, or a
            limit is below 1.
    """
    vocabulary, limit = policy.vocabulary, checked_limit(policy, source, limit)
    backspace = vocabulary.backspace
    if backspace is None:
        raise ValueError("the vocabulary has no backspace; see Vocabulary.with_backspace")
    if not isinstance(policy, ErasingPolicy):
        raise ValueError(f"{type(policy).__name__} cannot withdraw tokens: it has no eraser")
    with evaluation_mode(policy):
        memory = Withdrawn(limit, backspace) if once else None
        reader = _Reader(policy.eraser(source), backspace, memory)
        done = run(reader, vocabulary, choose, limit)
    actions, mask = done.taken
    tokens, mask = remaining(actions, mask, pad=vocabulary.pad, backspace=backspace)
    return replace(
        done, tokens=tokens, lengths=mask.sum(1), actions=actions, action_lengths=done.lengths
    )


class _Reader:
    """Lets rows withdraw where they wrote a backspace."""

    def __init__(self, eraser: Eraser, backspace: int, memory: Withdrawn | None) -> None:
        self.eraser, self.backspace, self.memory = eraser, backspace, memory
        self.begun = False

    def read(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads what it wrote last, or withdraws."""
        withdraw = (inputs == self.backspace) & self.begun
        scores = self.eraser.read(inputs, withdraw)
        if self.memory is not None:
            if self.begun:
                self.memory.note(inputs, withdraw)
            scores = self.memory.rule_out(scores)
        self.begun = True
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on."""
        self.eraser.keep(rows)
        if self.memory is not None:
            self.memory.keep(rows)


class Withdrawn:
    """Which tokens rows have withdrawn from the prefixes that lead to where they stand.

    Entry i of a row is a token, and the level of the prefix it was withdrawn from: the number of
    its tokens; -1 where there is none.
    """

    def __init__(self, limit: Int[Tensor, "n"], backspace: int) -> None:
        self.backspace, self.level = backspace, torch.zeros_like(limit)
        self.typed = limit.new_zeros(len(limit), int(limit.max()))
        self.tokens, self.levels = torch.zeros_like(self.typed), torch.full_like(self.typed, -1)
        self.noted, self.used = False, 0

    def note(self, inputs: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> None:
        """Each row typed its token, or withdrew its last one."""
        here, self.noted = self.level[:, None], True
        if self.used or inputs.device.type != "cpu" or bool(withdraw.any()):
            back = withdraw & (self.level > 0)
            self.levels.masked_fill_((self.levels == here) & back[:, None], -1)
            below = (here - 1).clamp(min=0)
            self.tokens[:, self.used] = self.typed.gather(1, below)[:, 0]
            self.levels[:, self.used] = (self.level - 1).where(back, -1)
            self.used += 1
        self.typed.scatter_(1, here, inputs[:, None])  # a backspace is overwritten, or never read
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)

    def rule_out(self, scores: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
        """Scores with -inf where a row may not go."""
        if self.noted and not self.used:  # nothing was withdrawn, and something can be
            return scores
        rows, actions = scores.shape
        gone = self.levels[:, : self.used] == self.level[:, None]
        tokens = self.tokens[:, : self.used].where(gone, actions)  # a column too many, for none
        ruled = torch.zeros(rows, actions + 1, dtype=torch.bool, device=scores.device)
        ruled = ruled.scatter_(1, tokens, True)[:, :actions]
        ruled[:, self.backspace] = self.level == 0
        return scores.masked_fill(ruled, -torch.inf)

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.level, self.typed = self.level[rows], self.typed[rows]
        self.tokens, self.levels = self.tokens[rows], self.levels[rows]


def forcing(choose: Choose, tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]) -> Choose:
    """The first actions of every row are given, the others are those of `choose`.

    What is given counts nothing in log-probabilities.

    Args:
        choose: from scores to actions and their log-probabilities.
        tokens: the actions that are given, which may be backspaces.
        lengths: how many are given to each row.

    Raises:
        ValueError: where a length is larger than the columns of `tokens`, or below 0.
    """
    if len(lengths):
        row = int(((lengths < 0) | (lengths > tokens.shape[1])).byte().argmax())
        if not 0 <= int(lengths[row]) <= tokens.shape[1]:
            raise ValueError(
                f"row {row} is given {int(lengths[row])} actions; it must be 0 to "
                f"{tokens.shape[1]}, the columns of tokens"
            )

    def forced(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen, gained = choose(scores, rows, cell)
        if cell >= tokens.shape[1]:
            return chosen, gained
        given = cell < lengths[rows]
        return tokens[rows, cell].where(given, chosen), gained.masked_fill(given, 0.0)

    return forced


def planting(
    choose: Choose, vocabulary: Vocabulary, *, rate: float, ids: Int[Tensor, "n"], seed: int
) -> Planting:
    """Actions of `choose`, of which some are replaced by wrong tokens.

    Args:
        choose: from scores to actions and their log-probabilities.
        vocabulary: that of the policy.
        rate: the probability that an action is replaced, in [0, 1].
        ids: names each row: equal ids of one seed meet the same errors.
        seed: names the draw.

    Raises:
        ValueError: where the rate is out of range, or there is nothing to write wrongly.
    """
    return Planting(choose, vocabulary, rate=rate, ids=ids, seed=seed)


class Planting:
    """A choice that goes wrong at times (see `planting`).

    A wrong token is drawn uniformly from all actions but the one that it replaces, eos, the
    backspace, `unknown`, bos and pad. It counts nothing in log-probabilities.
    """

    def __init__(
        self,
        choose: Choose,
        vocabulary: Vocabulary,
        *,
        rate: float,
        ids: Int[Tensor, "n"],
        seed: int,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}; it must lie in [0, 1]")
        special = vocabulary.special
        count = vocabulary.actions - len(special)
        if count < 2:
            raise ValueError(
                f"the vocabulary has {count} tokens beside special ones; an error needs 2"
            )
        self.choose, self.rate, self.ids, self.seed = choose, rate, ids, seed
        self.wrong = any_token(vocabulary.actions, special)

    def __call__(
        self, scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """The actions of some rows, and their log-probabilities."""
        chosen, gained = self.choose(scores, rows, cell)
        ids = self.ids[rows]
        draw = uniform(self.seed, "wrong token", ids, cell, dtype=torch.float64)
        wrong = self.wrong.choose(chosen, draw)
        planted = self._coins(ids, torch.full_like(ids, cell))
        return wrong.where(planted, chosen), gained.masked_fill(planted, 0.0)

    def planted(self, decoded: Decoded) -> Bool[Tensor, "n u"]:
        """Which actions of what was written with this choice are planted errors."""
        actions, mask = decoded.taken
        cells = torch.arange(actions.shape[1], device=actions.device)
        return mask & self._coins(self.ids[:, None], cells)

    def _coins(self, ids: Int[Tensor, "..."], cells: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        return uniform(self.seed, "plant", ids, cells, dtype=torch.float64) < self.rate
