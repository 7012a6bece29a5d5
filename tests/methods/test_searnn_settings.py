"""The settings of SEARNN: what is refused, in which words, and that each makes a difference."""

import math
import re
from typing import get_args

import pytest
import torch

from freerun.batch import Batch
from freerun.costs import CostName
from freerun.methods import SEARNN, Clock
from freerun.methods.searnn import (
    AllTokens,
    Candidates,
    FocusedRollOut,
    KLLoss,
    LearnedRollIn,
    LogLoss,
    MixedRollIn,
    MixedRollOut,
    ReferenceRollIn,
    ReferenceRollOut,
    RollInByCost,
    TopTokens,
)
from freerun.settings import SettingError, build, list_settings, to_dict
from freerun.vocabulary import Vocabulary
from tests.helpers import searnn, tiny_batch, tiny_policy

CLOCK = Clock(3, total=9, seed=1)
LEARNED = {"roll_out": "learned"}
TAUGHT = {"roll_out": "reference"}
CHOSEN = "token_choice=uniform or policy or biased or top_k or neighbors or targeted"
SCALED = "cell_loss=kl or inverse_kl or js or llcas or structured_hinge or l2"
COSTS = "hamming, hamming_total, edit_distance, bleu, bleu_1, gleu, chunk_f1"

REFUSED = [
    # Out of range
    ({"roll_in": "mixed", "roll_in_share": -0.1}, "roll_in_share is -0.1; it must be in [0, 1]"),
    ({"roll_in": "mixed_cells", "roll_in_share": 1.1},
     "roll_in_share is 1.1; it must be in [0, 1]"),
    ({"roll_out_share": 1.5}, "roll_out_share is 1.5; it must be in [0, 1]"),
    ({"roll_out": "focused", "focus": -1}, "focus is -1; it must be at least 0"),
    ({"roll_out": "focused", "focus_end": -1}, "focus_end is -1; it must be at least 0"),
    ({"cells": 0}, "cells is 0; it must be at least 1"),
    ({"token_choice": "top_k", "tokens": 0}, "tokens is 0; it must be at least 1"),
    ({"token_choice": "neighbors", "tokens": 4, "neighbors": 0},
     "neighbors is 0; it must be at least 1"),
    ({"token_choice": "neighbors", "tokens": 10},
     "neighbors is 10; it must be below tokens, of which they are a part"),
    ({"token_choice": "neighbors", "tokens": 3, "neighbors": 3},
     "neighbors is 3; it must be below tokens, of which they are a part"),
    ({"token_choice": "targeted", "tokens": 2, "gap": 1.1}, "gap is 1.1; it must be in [0, 1]"),
    ({"stretch": 0.9}, "stretch is 0.9; it must be at least 1"),
    ({"at_once": 0}, "at_once is 0; it must be at least 1"),
    ({"alpha": 0.0}, "alpha is 0.0; it must be finite and above 0"),
    ({"alpha": math.inf}, "alpha is inf; it must be a finite number"),
    ({"token_choice": "biased", "tokens": 2, "bias": 1.0}, "bias is 1.0; it must lie in [0, 1)"),
    ({"token_choice": "biased", "tokens": 2, "bias": -0.5}, "bias is -0.5; it must lie in [0, 1)"),
    ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
    # Unknown
    ({"cost": "edits"}, f"cost is 'edits'; it must be one of {COSTS}, a metric of texts such as "
     "wer, or the address of a function, package.module:function"),
    ({"reference": "copied"},
     "reference is 'copied'; it must be one of copy, best_suffix_bleu_1, best_suffix_bleu, "
     "best_suffix_gleu, max_f1, min_edit_distance or null"),
    ({"roll_in": "own"}, "roll_in is 'own'; it must be one of by_cost, reference, learned, "
     "mixed, mixed_cells"),
    ({"roll_out_precision": "fp8"}, "roll_out_precision is 'fp8'; it must be one of training, "
     "bfloat16"),
    # Missing
    ({"token_choice": "targeted"},
     "token_choice=targeted needs tokens: the maximum number of tokens of a cell, "
     "including the reference token; at least 1"),
    # Without effect
    ({"tokens": 3}, f"tokens has no effect on token_choice=all; it needs {CHOSEN}"),
    ({"roll_in_share": 0.5},
     "roll_in_share has no effect on roll_in=by_cost; it needs roll_in=mixed or mixed_cells"),
    ({**LEARNED, "roll_out_share": 0.5},
     "roll_out_share has no effect on roll_out=learned; it needs roll_out=mixed"),
    ({"focus": 1}, "focus has no effect on roll_out=mixed; it needs roll_out=focused"),
    ({**LEARNED, "focus_end": 3},
     "focus_end has no effect on roll_out=learned; it needs roll_out=focused"),
    ({**TAUGHT, "roll_out_precision": "bfloat16"},
     "roll_out_precision has no effect on roll_out=reference; it needs roll_out=learned or "
     "mixed or focused"),
    ({**TAUGHT, "at_once": 8},
     "at_once has no effect on roll_out=reference; it needs roll_out=learned or mixed or "
     "focused"),
    ({**TAUGHT, "roll_in": "reference", "stretch": 2.0},
     "stretch has no effect here; it needs a roll_in or roll_out by the policy"),
    ({**LEARNED, "reference": "copy"},
     "reference has no effect here; no reference policy is used"),
    ({"cell_loss": "ll", "alpha": 1.0}, f"alpha has no effect on cell_loss=ll; it needs {SCALED}"),
    ({"cell_loss": "consistent", "alpha": 1.0},
     f"alpha has no effect on cell_loss=consistent; it needs {SCALED}"),
    ({"neighbors": 2, "token_choice": "top_k", "tokens": 4},
     "neighbors has no effect on token_choice=top_k; it needs token_choice=neighbors"),
    ({"bias": 0.3, "token_choice": "policy", "tokens": 4},
     "bias has no effect on token_choice=policy; it needs token_choice=biased"),
    ({"gap": 0.3, "token_choice": "top_k", "tokens": 4},
     "gap has no effect on token_choice=top_k; it needs token_choice=targeted"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_is_refused(settings, message):
    with pytest.raises(SettingError, match=f"^searnn: {re.escape(message)}$"):
        searnn(**settings)


def test_every_setting_is_tried_above():
    """A refusal that is added to the settings is to be added to the list."""
    tried = {message.split()[0].split("=")[0] for _, message in REFUSED}
    choices = {"roll_out", "cell_loss"}  # whose values are tried as that of roll_in is
    assert set(list_settings(SEARNN)) == tried | choices


def test_too_many_tokens_to_try():
    words = Vocabulary.build(map(str, range(20_000)), eos=True)
    with pytest.raises(ValueError, match=r"^searnn would finish 20,001 outputs at every cell, one"):
        searnn(cost="edit_distance").check(words)
    for settings in ({"token_choice": "top_k", "tokens": 5}, {"roll_out": "reference"}):
        searnn(cost="edit_distance", **settings).check(words)


@pytest.mark.parametrize("share", [math.nan, -0.1])
def test_options_check_themselves_in_python(share):
    with pytest.raises(ValueError, match=rf"^roll_in_share is {share}; it must be in \[0, 1\]$"):
        MixedRollIn(share)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["reference", "cost"])
def test_choices_are_those_of_their_type(name):
    with pytest.raises(ValueError, match=f"^{name} is 'Whatever'; it must be one of "):
        SEARNN(**{name: "Whatever"})


def test_settings_by_name_are_the_options_in_python():
    """As the command line gives them, and as a record has them."""
    given = {
        "cost": "bleu",
        "alpha": "200",
        "cells": "20",
        "roll_in": "mixed",
        "roll_in_share": "0.3",
        "roll_out": "focused",
        "focus": "2",
        "token_choice": "top_k",
        "tokens": "5",
        "stretch": "2",
    }
    method = build(SEARNN, given, "method 'searnn'")
    assert method == SEARNN(
        cost="bleu",
        roll_in=MixedRollIn(0.3),
        roll_out=FocusedRollOut(focus=2),
        candidates=Candidates(cells=20, tokens=TopTokens(5)),
        cell_loss=KLLoss(alpha=200.0),
        stretch=2.0,
    )
    assert build(SEARNN, to_dict(method), "record") == method
    assert to_dict(SEARNN(roll_out=ReferenceRollOut(), cell_loss=LogLoss())) == {
        "roll_in": "by_cost",
        "roll_out": "reference",
        "cost": None,
        "reference": None,
        "cells": None,
        "token_choice": "all",
        "cell_loss": "ll",
        "warm_up": 0.0,
        "stretch": 1.5,
    }


def test_the_defaults_are_those_of_the_paper():
    """Roll-in by the cost, mixed roll-out, all cells and tokens, KL; the cost is the task's."""
    method = SEARNN()
    assert method.roll_in == RollInByCost()
    assert method.roll_out == MixedRollOut(share=0.5)
    assert method.candidates == Candidates(cells=None, tokens=AllTokens())
    assert method.cell_loss == KLLoss(alpha=100.0)
    assert method.cost is None
    assert method == searnn()
    # What is left out is what the settings say.
    stated = {
        name: setting.default
        for name, setting in list_settings(SEARNN).items()
        if setting.choice is None
    }
    assert method == searnn(**stated)


@pytest.mark.parametrize("cost", [*get_args(CostName), "wer", None])
def test_by_default_prefixes_are_targets_if_the_cost_compares_n_grams(cost):
    """As in the paper: on translation the reference's, elsewhere the policy's own."""
    compares = cost in ("bleu", "bleu_1", "gleu")
    method = SEARNN(cost=cost)
    assert method.chosen_roll_in == (ReferenceRollIn() if compares else LearnedRollIn())
    chosen = SEARNN(cost=cost, roll_in=MixedRollIn(share=0.2))
    assert chosen.chosen_roll_in == MixedRollIn(share=0.2)


def test_the_default_prefixes_are_those_of_the_choice_by_name():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    for cost, name in (("bleu", "reference"), ("edit_distance", "learned")):
        one = searnn(cost=cost).search(policy, batch, CLOCK)
        other = searnn(cost=cost, roll_in=name).search(policy, batch, CLOCK)
        assert torch.equal(one.roll_in.tokens, other.roll_in.tokens)
        assert torch.equal(one.costs, other.costs)


def test_without_an_own_prefix_or_roll_out_stretch_has_no_effect():
    with pytest.raises(ValueError, match="stretch has no effect"):
        SEARNN(cost="bleu", roll_out=ReferenceRollOut(), stretch=2.0)


# A cost of one's own


def surplus(hypotheses, lengths, references, reference_lengths):
    """A cost that this file's address names."""
    return (lengths - reference_lengths).abs().double()


def test_a_cost_may_be_the_address_of_a_function():
    policy = tiny_policy(4, attention="general")
    batch = tiny_batch(policy, targets=(5, 1, 3, 2))
    method = searnn(cost=f"{__name__}:surplus", reference="copy")
    assert to_dict(method)["cost"] == f"{__name__}:surplus"
    expected = searnn(cost=surplus, reference="copy").loss(policy, batch, CLOCK).total
    assert torch.equal(method.loss(policy, batch, CLOCK).total, expected)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere.at.all:cost", "cost 'nowhere.at.all:cost': there is no module nowhere"),
        (f"{__name__}:surplu", f"cost '{__name__}:surplu': there is no surplu in {__name__}; did "
         "you mean 'surplus'?"),
        (f"{__name__}:COSTS", f"cost '{__name__}:COSTS': it is not a function"),
        (f"{__name__}:surplus", "SEARNN.reference is None: name the one that matches your cost"),
    ],
)  # fmt: skip
def test_addresses_of_costs_that_do_not_do(address, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        searnn(cost=address).check(Vocabulary.build("abc", eos=True))


# What choices do


def test_an_endless_stretch_leaves_the_limit_to_the_policy():
    policy = tiny_policy(4, attention="general", limit=20, seed=2)
    with torch.no_grad():
        policy.output.bias[3] = -1e9
    batch = tiny_batch(policy, targets=(4, 3, 2, 4))
    method = searnn(cost="gleu", roll_in="learned", stretch=1e12)
    assert method.search(policy, batch, CLOCK).roll_in.lengths.tolist() == [20] * 4


def test_unknown_tokens_cost_as_much_as_wrong_ones():
    """The vocabulary's own: a policy that writes what stands for other words gains nothing."""
    words = Vocabulary.build("ab", eos=True, unknown=True)
    policy = tiny_policy(words=words, attention="general")
    batch = tiny_batch(policy, lengths=(2, 2), targets=(2, 2))
    target = torch.tensor([[0, 3], [1, 3]])
    batch = Batch(batch.ids, batch.source, target, batch.mask)
    method = searnn(cost="edit_distance", roll_in="reference", roll_out="reference")
    costs = method.search(policy, batch, CLOCK).costs[::2]
    assert costs.tolist() == [[1, 1, 1, 1], [1, 0, 1, 1]]
