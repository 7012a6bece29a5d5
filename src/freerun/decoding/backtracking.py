"""Decoding with backspaces, and samplers that also write other actions than the policy's."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.backspaces import AnyToken, apply_backspaces
from freerun.batch import Source
from freerun.decoding.loop import Decoded, Scorer, resolve_limit, run_scorer
from freerun.decoding.sampling import Sampler
from freerun.policy import Eraser, Policy, evaluation_mode
from freerun.randomness import uniform
from freerun.vocabulary import Vocabulary


@torch.no_grad()
def backtrack(
    policy: Policy,
    source: Source,
    choose: Sampler,
    limit: Int[Tensor, "n"] | None = None,
    *,
    forbid_repeats: bool = False,
) -> Decoded:
    """Write and withdraw tokens with `choose(scores, rows, cell)` until every row has ended.

    An action is a token, eos, or a backspace, which withdraws the last token; if there is none, it
    does nothing. Scores depend on the tokens that remain (Cundy and Ermon 2024, arXiv 2306.05426).
    A cell is an action here, and limits count actions, so that every row ends.

    Args:
        policy: the model; decodes in evaluation mode.
        source: the inputs to decode from.
        choose: the sampler.
        limit: the maximum number of actions of each row; by default the policy's own limit.
        forbid_repeats: whether a token that was withdrawn from a prefix may not be written there
            again, nor a backspace if there is nothing to withdraw: their scores are -inf. As scores
            depend on the prefix alone, greedy decoding would otherwise write and withdraw the same
            token forever. What was forbidden after a prefix is allowed again once its last token is
            withdrawn.

    Raises:
        ValueError: if the vocabulary has no backspace, the policy cannot withdraw tokens, or a
            limit is below 1.
    """
    vocabulary, limit = policy.vocabulary, resolve_limit(policy, source, limit)
    backspace = vocabulary.backspace
    if backspace is None:
        raise ValueError("the vocabulary has no backspace; see Vocabulary.with_backspace")
    with evaluation_mode(policy):
        withdrawn = WithdrawnTokens(limit, backspace) if forbid_repeats else None
        scorer = _EraserScorer(policy.eraser(source), backspace, withdrawn)
        done = run_scorer(scorer, vocabulary, choose, limit)
    actions, mask = done.all_actions
    tokens, mask = apply_backspaces(actions, mask, pad=vocabulary.pad, backspace=backspace)
    return replace(
        done, tokens=tokens, lengths=mask.sum(1), actions=actions, action_lengths=done.lengths
    )


class _EraserScorer(Scorer):
    """Scores of an eraser, in which rows withdraw a token when they write a backspace."""

    def __init__(self, eraser: Eraser, backspace: int, withdrawn: WithdrawnTokens | None) -> None:
        self.eraser, self.backspace, self.withdrawn = eraser, backspace, withdrawn
        self.begun = False

    def score(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read or withdraw a token in each row, and return the scores of the next action."""
        # The first input is bos, which may have the same id as the backspace.
        withdraw = (inputs == self.backspace) & self.begun
        scores = self.eraser.read(inputs, withdraw)
        if self.withdrawn is not None:
            if self.begun:
                self.withdrawn.update(inputs, withdraw)
            scores = self.withdrawn.mask_scores(scores)
        self.begun = True
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`."""
        self.eraser.keep(rows)
        if self.withdrawn is not None:
            self.withdrawn.keep(rows)


class WithdrawnTokens:
    """The tokens that rows have withdrawn from the prefixes of what remains.

    Entry i of a row is a token, and the level of the prefix that it was withdrawn from, which is
    the number of tokens before it; -1 if there is no entry.
    """

    def __init__(self, limit: Int[Tensor, "n"], backspace: int) -> None:
        self.backspace, self.level = backspace, torch.zeros_like(limit)
        self.typed = limit.new_zeros(len(limit), int(limit.max()))
        self.tokens, self.levels = torch.zeros_like(self.typed), torch.full_like(self.typed, -1)
        self.updated, self.used = False, 0

    def update(self, inputs: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> None:
        """Record that each row wrote its token, or withdrew its last one."""
        here, self.updated = self.level[:, None], True
        # On the CPU, columns are used from the first withdrawal on. On other devices, they are used
        # from the first call on, because a test would wait for the device.
        if self.used or inputs.device.type != "cpu" or bool(withdraw.any()):
            # Entries are deleted when the level that they belong to is left.
            back = withdraw & (self.level > 0)
            self.levels.masked_fill_((self.levels == here) & back[:, None], -1)
            below = (here - 1).clamp(min=0)
            self.tokens[:, self.used] = self.typed.gather(1, below)[:, 0]
            self.levels[:, self.used] = (self.level - 1).where(back, -1)
            self.used += 1
        self.typed.scatter_(1, here, inputs[:, None])  # of a backspace: never read
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)

    def mask_scores(self, scores: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
        """Return scores that are -inf for forbidden actions."""
        if self.updated and not self.used:  # nothing was withdrawn yet, and no row is empty
            return scores
        rows, actions = scores.shape
        gone = self.levels[:, : self.used] == self.level[:, None]
        # Entries of other levels set a column of their own, which is cut off.
        tokens = self.tokens[:, : self.used].where(gone, actions)
        forbidden = torch.zeros(rows, actions + 1, dtype=torch.bool, device=scores.device)
        forbidden = forbidden.scatter_(1, tokens, True)[:, :actions]
        forbidden[:, self.backspace] = self.level == 0  # there is nothing to withdraw
        return scores.masked_fill(forbidden, -torch.inf)

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.level, self.typed = self.level[rows], self.typed[rows]
        self.tokens, self.levels = self.tokens[rows], self.levels[rows]


def force_actions(
    choose: Sampler, tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]
) -> Sampler:
    """Return a sampler that first writes given actions in every row, and then those of `choose`.

    The log-probability of a given action counts as 0.

    Args:
        choose: the sampler of the other actions.
        tokens: the given actions, which may be backspaces.
        lengths: the number of given actions of each row.

    Raises:
        ValueError: if a length is below 0 or above the number of columns of `tokens`.
    """
    if len(lengths):
        row = int(((lengths < 0) | (lengths > tokens.shape[1])).byte().argmax())
        if not 0 <= int(lengths[row]) <= tokens.shape[1]:
            raise ValueError(
                f"row {row} is given {int(lengths[row])} actions; it must be 0 to "
                f"{tokens.shape[1]}, the columns of tokens"
            )

    def sampler(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen, log_probs = choose(scores, rows, cell)
        if cell >= tokens.shape[1]:
            return chosen, log_probs
        given = cell < lengths[rows]
        return tokens[rows, cell].where(given, chosen), log_probs.masked_fill(given, 0.0)

    return sampler


class NoisySampler:
    """A sampler that replaces some actions by wrong tokens.

    A wrong token is drawn uniformly from all actions but the one that it replaces, eos, backspace,
    unknown, bos and pad. Its log-probability counts as 0.

    Args:
        choose: the sampler.
        vocabulary: the vocabulary of the policy.
        rate: the probability that an action is replaced, in [0, 1].
        ids: the id of each row: with the same seed and id, a row gets the same errors in any batch.
        seed: the seed of the draws.

    Raises:
        ValueError: if the rate is out of range, or there are fewer than two tokens to choose from.
    """

    def __init__(
        self,
        choose: Sampler,
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
                f"the vocabulary has {count} tokens besides special ones; an error needs 2"
            )
        self.choose, self.rate, self.ids, self.seed = choose, rate, ids, seed
        self.wrong = AnyToken.build(vocabulary.actions, special)

    def __call__(
        self, scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """Return the actions of some rows and their log-probabilities."""
        chosen, log_probs = self.choose(scores, rows, cell)
        ids = self.ids[rows]
        # Drawn for all rows, because only the device knows which actions are replaced.
        draw = uniform(self.seed, "wrong token", ids, cell, dtype=torch.float64)
        wrong = self.wrong.choose(chosen, draw)
        replaced = self._toss_coins(ids, torch.full_like(ids, cell))
        return wrong.where(replaced, chosen), log_probs.masked_fill(replaced, 0.0)

    def find_errors(self, decoded: Decoded) -> Bool[Tensor, "n u"]:
        """Return which actions of an output that was decoded with this sampler are wrong tokens."""
        actions, mask = decoded.all_actions
        cells = torch.arange(actions.shape[1], device=actions.device)
        return mask & self._toss_coins(self.ids[:, None], cells)

    def _toss_coins(
        self, ids: Int[Tensor, "..."], cells: Int[Tensor, "..."]
    ) -> Bool[Tensor, "..."]:
        return uniform(self.seed, "plant", ids, cells, dtype=torch.float64) < self.rate
