"""Wrong shapes, lengths and ranges are errors that name the argument, without jaxtyping too."""

import math

import pytest
import torch
from torch import tensor

from freerun import backspaces, costs, losses, references, relaxations, schedules
from freerun.arguments import check_number, check_values
from freerun.losses import CELL_LOSSES, ScoredActions

SCORES, COSTS = torch.linspace(-1, 1, 15).view(3, 5), torch.linspace(0, 1, 15).view(3, 5)
TRIAL_SIZE, TARGETS = torch.ones(3, 5, dtype=torch.bool), tensor([0, 1, 2])
ROWS, LENGTHS = tensor([[0, 1], [1, 0]]), tensor([2, 1])
MASK = torch.ones(2, 2, dtype=torch.bool)
TAGS = costs.chunk_tags(["O", "B-X", "I-X"])
NOISE = {"rate": 0.5, "backspace": 4, "pad": 0, "names": (0,), "ids": tensor([0, 1])}
ANY = backspaces.AnyToken.build(5, [4])


@pytest.fixture(autouse=True)
def without_types(unchecked):
    """As users have it."""


def test_the_message_says_what_is_right():
    with pytest.raises(ValueError, match="must") as caught:
        losses.log_loss(SCORES, tensor([0, 1]))
    assert str(caught.value) == "targets has shape (2,); it must be [n], where n is 3 as in scores"
    with pytest.raises(ValueError, match="must") as caught:
        losses.log_loss(SCORES[None], TARGETS)
    assert str(caught.value) == "scores has shape (1, 3, 5); it must be [n, a]"
    with pytest.raises(ValueError, match="must") as caught:
        losses.log_loss(SCORES, TARGETS.float())
    assert str(caught.value) == "targets has dtype torch.float32; it must hold integers"
    with pytest.raises(ValueError, match="must") as caught:
        losses.log_loss(SCORES.tolist(), TARGETS)
    assert str(caught.value) == "scores is a list; it must be a tensor"
    with pytest.raises(ValueError, match="must") as caught:
        costs.edit_distance(ROWS, tensor([3, 1]), ROWS, LENGTHS)
    assert str(caught.value) == (
        "hypothesis_lengths has 3; it must be from 0 to 2, the width of hypotheses"
    )


@pytest.mark.parametrize("smoothing", [1.5, 1.0, -0.1, math.nan])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=rf"^smoothing is {smoothing}; it must lie in \[0, 1\)$"):
        losses.log_loss(SCORES, TARGETS, smoothing=smoothing)


@pytest.mark.parametrize("name", CELL_LOSSES)
def test_cell_losses(name):
    alpha = {} if name in ("ll", "consistent") else {"alpha": 1.0}
    loss = CELL_LOSSES[name]
    for scores, found, mask, wrong in (
        (SCORES, COSTS[:1], TRIAL_SIZE, "costs"),  # which would be broadcast
        (SCORES, COSTS, TRIAL_SIZE[:, :1], "mask"),
        (SCORES, COSTS, TRIAL_SIZE.long(), "mask"),  # ~1 is -2
        (SCORES[0], COSTS[0], TRIAL_SIZE[0], "scores"),
    ):
        with pytest.raises(ValueError, match=f"^{wrong} has "):
            loss(scores, found, mask, **alpha)
    for value in (0.0, -1.0, math.nan, math.inf) if alpha else ():
        with pytest.raises(ValueError, match=f"^alpha is {value}; it must be finite and above 0$"):
            loss(SCORES, COSTS, TRIAL_SIZE, alpha=value)


PAIRED = {
    **{n: getattr(costs, n) for n in ("edit_distance", "bleu", "bleu_1", "gleu", "hamming_total")},
    "hamming": costs.hamming,
    "levenshtein": costs.levenshtein,
    "prefix_distances": costs.prefix_distances,
    "chunk_f1": lambda *pairs: costs.chunk_f1(*pairs, tags=TAGS),
    "python": costs.PythonCost(lambda *pair: 0.0),
    "copy": references.copy,
    "min_edit_distance": references.min_edit_distance,
    "best_suffix_bleu": references.best_suffix_bleu,
    "max_f1": references.make_reference("max_f1", ["O", "B-X", "I-X"]),
}


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize(
    "pairs",
    [
        (ROWS, tensor([3, 1]), ROWS, LENGTHS),
        (ROWS, tensor([-1, 1]), ROWS, LENGTHS),
        (ROWS, LENGTHS, ROWS, tensor([2, 9])),
        (ROWS, LENGTHS[:1], ROWS, LENGTHS),
        (ROWS, LENGTHS, ROWS[:1], LENGTHS[:1]),
        (ROWS[0], LENGTHS, ROWS, LENGTHS),
        (ROWS.float(), LENGTHS, ROWS, LENGTHS),
        (ROWS, LENGTHS.double(), ROWS, LENGTHS),
    ],
)
def test_costs_and_references(name, pairs):
    with pytest.raises(ValueError, match="; it must "):
        PAIRED[name](*pairs)


def test_nothing_against_nothing_costs_nothing():
    nothing, zero = torch.zeros(1, 0, dtype=torch.long), tensor([0])
    for name in ("edit_distance", "bleu", "bleu_1", "gleu", "hamming", "chunk_f1"):
        assert PAIRED[name](nothing, zero, nothing, zero).tolist() == [0]


WRONG = {
    "targets": lambda: losses.log_loss(SCORES, tensor([0, 5, 1])),
    "tokens": lambda: losses.sequence_unlikelihood(SCORES, tensor([0, -1, 2])),
    "scores": lambda: losses.token_unlikelihood(SCORES, ROWS, MASK),
    "mask": lambda: losses.repeated_ngrams(ROWS, ~MASK.long()),
    "mask: row 0": lambda: losses.repeated_ngrams(ROWS, tensor([[False, True], [True, True]])),
    "size": lambda: losses.repeated_ngrams(ROWS, MASK, size=0),
    "values": lambda: ScoredActions(SCORES[:2, :2], SCORES[:2, :2], MASK, MASK[:, 0]),
    "ended": lambda: ScoredActions(SCORES[:2, :2], SCORES[:2, :3], MASK, MASK),
    "alpha": lambda: relaxations.soft_argmax(SCORES, 0.0),
    "top_k": lambda: relaxations.soft_argmax(SCORES, 1.0, top_k=0),
    "noise": lambda: relaxations.soft_sample(SCORES, SCORES[0], 1.0),
    "weights": lambda: relaxations.straight_through(TARGETS),
    "k": lambda: schedules.Exponential(1.5),
    "c": lambda: schedules.Linear(1.0, math.nan),
    "start": lambda: schedules.Geometric(0.0, 1.0, 3),
    "steps": lambda: schedules.Geometric(1.0, 1.0, -3),
    "step": lambda: schedules.Exponential(0.5)(-3),
    "half": lambda: schedules.inverse_sigmoid_rate(-1.0),
    "eos": lambda: references.optimal_tokens(ROWS, LENGTHS, ROWS, LENGTHS, actions=3, eos=3),
    "mask of actions": lambda: backspaces.build_tree(ROWS, MASK[:1], bos=0, pad=0, backspace=3),
    "rate": lambda: backspaces.insert_noise(ROWS, MASK, ANY, **{**NOISE, "rate": math.nan}),
    "ids": lambda: backspaces.insert_noise(ROWS, MASK, ANY, **{**NOISE, "ids": tensor([0])}),
    "tokens of noise": lambda: backspaces.insert_noise(ROWS + 5, MASK, ANY, **NOISE),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_argument_is_named(what):
    with pytest.raises(ValueError, match=rf"^{what.split(' of ')[0]}\b"):
        WRONG[what]()


def test_tensors_whose_values_cannot_be_read_are_not_read():
    for unknown in (torch.full((2,), 9, device="meta"), torch.zeros(0, dtype=torch.long)):
        check_values("lengths", unknown, 0, 1)
    torch.func.vmap(lambda row: check_values("lengths", row, 0, 1) or row)(tensor([[9]]))


def test_integers_are_not_said_to_be_finite():
    with pytest.raises(ValueError, match=r"^n is 0; it must be at least 1$"):
        check_number("n", 0, 1)
    with pytest.raises(ValueError, match=r"^x is inf; it must be finite$"):
        check_number("x", math.inf)
