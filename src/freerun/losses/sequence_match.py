"""The SequenceMatch loss, which matches the occupancies of data and model.

Cundy, Ermon 2024, *SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling with
Backtracking*, arXiv 2306.05426. The scores are interpreted as a soft Q-function: ℓ(a|s) is that of
action a in state s, V(s) = log Σ_a exp ℓ(a|s), and the implied reward is
r(s, a) = ℓ(a|s) - γ·V(s'), where s' is the state after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.arguments import check_count, check_number, check_padding, check_shapes, check_values
from freerun.losses.divergences import Divergence, check_divergence, outside_domain, psi


@dataclass(frozen=True)
class ScoredActions:
    """The scores and values of action sequences that the losses need.

    The state after the last action has a value too. A sequence that does not end in eos is
    truncated.

    Args:
        scores: ℓ(a_t|s_t), the score of every action; used only where `mask` is true.
        values: V(s_t), the value of the state before every action and of the state after the last
            one; values beyond that are ignored.
        mask: true on actions, false on the padding that follows them.
        ended: whether the last action is eos.

    Raises:
        ValueError: if shapes do not match.
    """

    scores: Float[Tensor, "b t"]
    values: Float[Tensor, "b u"]
    mask: Bool[Tensor, "b t"]
    ended: Bool[Tensor, "b"]

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes(
            scores=(self.scores, "float b t"),
            values=(self.values, "float b t+1"),
            mask=(self.mask, "bool b t"),
            ended=(self.ended, "bool b"),
        )
        _check_one_more("values", self.values, self.mask)

    @classmethod
    def from_scores(
        cls,
        scores: Float[Tensor, "n a"],
        rows: Bool[Tensor, "b r"],
        tops: Int[Tensor, "b u"],
        actions: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        ended: Bool[Tensor, "b"],
    ) -> ScoredActions:
        """Collect the scores of actions and the values of states, in at least single precision.

        Args:
            scores: of the rows that are true in `rows`, row by row.
            rows: the rows of the network that were scored. Scores and values that need another row
                are NaN, such as the value of the last state, which behavior cloning does not use.
            tops: the row that scores each action, and the row of the state after the last.
            actions: tokens, eos and backspaces.
            mask: true on actions, false on the padding that follows them.
            ended: whether the last action is eos.

        Raises:
            ValueError: if shapes do not match, or there are not as many scores as `rows` has true
                values.
        """
        check_shapes(
            scores=(scores, "float n a"),
            rows=(rows, "bool b r"),
            tops=(tops, "int b t+1"),
            actions=(actions, "int b t"),
            mask=(mask, "bool b t"),
            ended=(ended, "bool b"),
        )
        _check_one_more("tops", tops, mask)
        check_values("tops", tops, 0, rows.shape[1] - 1, what=", the last of rows")
        check_count("scores", scores, rows, "true value of rows")

        def score(function: Callable[..., Tensor], *more: Tensor) -> Tensor:
            return function(scores, *more)

        return cls.collect(score, rows, tops, actions, mask, ended)

    @classmethod
    def collect(
        cls,
        score: Callable[..., Float[Tensor, "n k"]],
        rows: Bool[Tensor, "b r"],
        tops: Int[Tensor, "b u"],
        actions: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        ended: Bool[Tensor, "b"],
    ) -> ScoredActions:
        """Collect the same from scores that are not all in memory at once.

        Args:
            score: computes `function(scores, *more)` from the scores of the rows that are true in
                `rows`, row by row, where the function treats each row alone.
            rows: as in `from_scores`, like all others.
            tops: the row that scores each action, and the row of the state after the last.
            actions: tokens, eos and backspaces.
            mask: true on actions, false on the padding that follows them.
            ended: whether the last action is eos.
        """
        known = rows.gather(1, tops)
        numbers = (rows.flatten().cumsum(0) - 1).view_as(rows).gather(1, tops)
        scored = mask & known[:, :-1]
        # A row scores several actions if tokens are withdrawn: they are the columns of a table.
        row, action = numbers[:, :-1][scored], actions[scored]
        order = row.argsort(stable=True)
        counts = torch.bincount(row, minlength=int(rows.sum()))
        first = (counts.cumsum(0) - counts)[row[order]]
        column = torch.empty_like(row)
        column[order] = torch.arange(len(row), device=row.device) - first
        table = row.new_zeros(len(counts), int(counts.max()) if len(row) else 0)
        table[row, column] = action
        found = score(_pick_scores, table)
        chosen = found.new_zeros(mask.shape).masked_scatter(scored, found[row, 1 + column])
        return cls(
            chosen.masked_fill(mask & ~known[:, :-1], torch.nan),
            found[:, 0][numbers].masked_fill(~known, torch.nan),
            mask,
            ended,
        )

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of actions in every sequence."""
        return self.mask.sum(1)


def _pick_scores(scores: Float[Tensor, "n a"], actions: Int[Tensor, "n m"]) -> Float[Tensor, "n k"]:
    """Return the value of each row and the scores of some actions, in at least single precision."""
    scores = _promote(scores)
    return torch.cat([scores.logsumexp(-1, keepdim=True), scores.gather(1, actions)], 1)


def _check_one_more(name: str, found: Tensor, mask: Bool[Tensor, "b t"]) -> None:
    """Check that there is a column for the state after the last action, too."""
    if found.shape[1] != mask.shape[1] + 1:
        raise ValueError(
            f"{name} has {found.shape[1]} columns; it must have {mask.shape[1] + 1}, one more than "
            "there are actions"
        )


def behavior_cloning_loss(scored: ScoredActions) -> Float[Tensor, ""]:
    """Compute -Σ log p(a_t|s_t) over all actions, backspaces and wrong tokens included.

    Actions where the mask is false do not count, wherever they are.
    """
    losses = _promote(scored.values[:, :-1]) - _promote(scored.scores)
    return losses.masked_fill(~scored.mask, 0).sum()


def sequence_match_loss(
    data: ScoredActions,
    model: ScoredActions | None,
    *,
    divergence: Divergence = "chi2_mixture",
    alpha: float = 0.01,
    gamma: float = 0.998,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute -J, summed over data sequences, and the fraction of rewards outside the domain of φ.

    J = E_data[ Σ_t γ^t·(1/α)·φ(α·r(s_t, a_t)) ] - ½·E_data[ Σ_t γ^t·(V(s_t) - γ·V(s_{t+1})) ]
    - ½·E_model[ Σ_t γ^t·(V(u_t) - γ·V(u_{t+1})) ]. Eos is absorbing: a sequence that ended after N
    actions stays in s_N forever, with reward (1-γ)·V(s_N), and the limits of these geometric sums
    are added. A truncated sequence has no such terms.

    The sums of values telescope, so the term of a model sequence that ended is -½·V(u_0): its
    tokens matter only through the penalty of chi2_mixture. Those of a truncated sequence also
    matter through the value of its last state.

    For chi2_mixture, φ(x) = x, and -(α/4)·(Σ_t γ^t·r² over data + Σ_t γ^t·r² over model) is added:
    then the divergence is 2·χ²(data ‖ ½·(data + model)).

    With α → 0, J is Σ_t γ^t·log p(a_t|s_t) + ½·(V(s_0) - V(u_0)) for sequences that ended: maximum
    likelihood if γ = 1 and the prompts are the same. α = 0 and γ = 1 need no special case.

    Args:
        data: the data sequences.
        model: sequences sampled from the model, now or earlier; their terms are averaged. If None,
            the values of the data replace theirs, and chi2_mixture, without its penalty on the
            model's rewards, becomes chi2.
        divergence: the divergence, which determines φ.
        alpha: α ≥ 0, the strength of the regularization of rewards.
        gamma: γ in [0, 1], the discount.

    Returns:
        -J times the number of data sequences, and the fraction of rewards outside the domain.

    Raises:
        ValueError: if alpha or gamma is out of range, the divergence is unknown, `model` is empty,
            or padding does not follow the actions of a sequence.
    """
    check_divergence(divergence)
    check_number("alpha", alpha, 0)
    check_number("gamma", gamma, 0, 1)
    if model is not None and not len(model.mask):
        raise ValueError("there is no model sequence; leave model out where there are none")
    for name, scored in (("data", data), ("model", model)):
        if scored is not None:
            check_padding(f"mask of {name}", scored.mask)
    ours = _Discounted.build(data, gamma)
    total = (ours.rewards * psi(alpha * ours.rewards, divergence) * ours.weights).sum(1)
    total = total - ours.start / 2 + ours.end / 2
    # The absorbing state adds its own value term, -½·γ^N·V(s_N), besides its reward.
    stay = ours.end * psi(alpha * ours.stay, divergence) - ours.end / 2
    total = total + torch.where(data.ended, stay, 0)
    other = ours if model is None else _Discounted.build(model, gamma)
    value = -other.start / 2 + torch.where(other.ended, 0, other.end / 2)
    if divergence == "chi2_mixture":
        total = total - alpha / 4 * ours.squares()
        if model is not None:
            value = value - alpha / 4 * other.squares()
    objective = total.sum() + len(total) * value.mean()
    with torch.no_grad():
        beyond = outside_domain(alpha * ours.rewards, divergence) & data.mask
        beyond_end = outside_domain(alpha * ours.stay, divergence) & data.ended
        share = (beyond.sum() + beyond_end.sum()) / (data.mask.sum() + data.ended.sum())
    return -objective, share


@dataclass(frozen=True)
class _Discounted:
    """Rewards, and discounted values, of action sequences.

    Args:
        rewards: r(s_t, a_t), 0 on padding.
        weights: γ^t, 0 on padding.
        start: V(s_0).
        end: γ^N·V(s_N).
        stay: (1-γ)·V(s_N), the reward of every step in the absorbing state.
        ended: whether the last action is eos.
    """

    rewards: Float[Tensor, "b t"]
    weights: Float[Tensor, "b t"]
    start: Float[Tensor, "b"]
    end: Float[Tensor, "b"]
    stay: Float[Tensor, "b"]
    ended: Bool[Tensor, "b"]

    @classmethod
    def build(cls, scored: ScoredActions, gamma: float) -> _Discounted:
        chosen, values = _promote(scored.scores), _promote(scored.values)
        last = values.gather(1, scored.lengths[:, None])[:, 0]
        times = torch.arange(values.shape[1], device=values.device)
        powers = torch.pow(gamma, times.double()).to(values.dtype)
        return cls(
            rewards=(chosen - gamma * values[:, 1:]).masked_fill(~scored.mask, 0),
            weights=powers[:-1] * scored.mask,
            start=values[:, 0],
            end=powers[scored.lengths] * last,
            stay=(1 - gamma) * last,
            ended=scored.ended,
        )

    def squares(self) -> Float[Tensor, "b"]:
        """Compute Σ_t γ^t·r² of each sequence, with the absorbing term γ^N·(1-γ)·V(s_N)²."""
        return (self.weights * self.rewards**2).sum(1) + torch.where(
            self.ended, self.end * self.stay, 0
        )


def _promote(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Convert to at least single precision: half precision has too few digits for sums."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
