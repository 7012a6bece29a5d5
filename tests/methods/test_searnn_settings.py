"""The settings of SEARNN: what is refused, in which words, and that each makes a difference."""

import math
import re

import pytest
import torch

from freerun.batch import Batch
from freerun.losses import CELL_LOSSES
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
    ReferenceRollOut,
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
    (
        {"roll_in": "mixed_cells", "roll_in_share": 1.1},
        "roll_in_share is 1.1; it must be in [0, 1]",
    ),
    ({"roll_out_share": 1.5}, "roll_out_share is 1.5; it must be in [0, 1]"),
    ({"roll_out": "focused", "focus": -1}, "focus is -1; it must be at least 0"),
    ({"roll_out": "focused", "focus_end": -1}, "focus_end is -1; it must be at least 0"),
    ({"cells": 0}, "cells is 0; it must be at least 1"),
    ({"token_choice": "top_k", "tokens": 0}, "tokens is 0; it must be at least 1"),
    (
        {"token_choice": "neighbors", "tokens": 4, "neighbors": 0},
        "neighbors is 0; it must be at least 1",
    ),
    (
        {"token_choice": "neighbors", "tokens": 10},
        "neighbors is 10; it must be below tokens, of which they are a part",
    ),
    (
        {"token_choice": "neighbors", "tokens": 3, "neighbors": 3},
        "neighbors is 3; it must be below tokens, of which they are a part",
    ),
    ({"token_choice": "targeted", "tokens": 2, "gap": 1.1}, "gap is 1.1; it must be in [0, 1]"),
    ({"stretch": 0.9}, "stretch is 0.9; it must be at least 1"),
    ({"at_once": 0}, "at_once is 0; it must be at least 1"),
    ({"alpha": 0.0}, "alpha is 0.0; it must be finite and above 0"),
    ({"alpha": math.inf}, "alpha is inf; it must be a finite number"),
    ({"token_choice": "biased", "tokens": 2, "bias": 1.0}, "bias is 1.0; it must lie in [0, 1)"),
    ({"token_choice": "biased", "tokens": 2, "bias": -0.5}, "bias is -0.5; it must lie in [0, 1)"),
    ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
    # Unknown
    (
        {"cost": "ter"},
        f"cost is 'ter'; it must be one of {COSTS}, or the address of a function, "
        "package.module:function",
    ),
    (
        {"reference": "copied"},
        "reference is 'copied'; it must be one of copy, best_suffix_bleu_1, best_suffix_bleu, "
        "best_suffix_gleu, max_f1, min_edit_distance or null",
    ),
    ({"roll_in": "own"}, "roll_in is 'own'; it must be one of reference, learned, mixed, "
     "mixed_cells"),
    ({"roll_out_precision": "fp8"}, "roll_out_precision is 'fp8'; it must be one of training, "
     "bfloat16"),
    # Missing
    (
        {"token_choice": "targeted"},
        "token_choice=targeted needs tokens: the maximum number of tokens of a cell, the "
        "reference token included; at least 1",
    ),
    # Without effect
    ({"tokens": 3}, f"tokens has no effect on token_choice=all; it needs {CHOSEN}"),
    (
        {"roll_in_share": 0.5},
        "roll_in_share has no effect on roll_in=learned; it needs roll_in=mixed or mixed_cells",
    ),
    (
        {**LEARNED, "roll_out_share": 0.5},
        "roll_out_share has no effect on roll_out=learned; it needs roll_out=mixed",
    ),
    ({"focus": 1}, "focus has no effect on roll_out=mixed; it needs roll_out=focused"),
    (
        {**LEARNED, "focus_end": 3},
        "focus_end has no effect on roll_out=learned; it needs roll_out=focused",
    ),
    (
        {**TAUGHT, "roll_out_precision": "bfloat16"},
        "roll_out_precision has no effect on roll_out=reference; it needs roll_out=learned or "
        "mixed or focused",
    ),
    (
        {**TAUGHT, "at_once": 8},
        "at_once has no effect on roll_out=reference; it needs roll_out=learned or mixed or "
        "focused",
    ),
    (
        {**TAUGHT, "roll_in": "reference", "stretch": 2.0},
        "stretch has no effect here; it needs a roll_in or roll_out by the policy",
    ),
    (
        {**LEARNED, "reference": "copy"},
        "reference has no effect here; no reference policy is asked",
    ),
    ({"cell_loss": "ll", "alpha": 1.0}, f"alpha has no effect on cell_loss=ll; it needs {SCALED}"),
    (
        {"cell_loss": "consistent", "alpha": 1.0},
        f"alpha has no effect on cell_loss=consistent; it needs {SCALED}",
    ),
    (
        {"neighbors": 2, "token_choice": "top_k", "tokens": 4},
        "neighbors has no effect on token_choice=top_k; it needs token_choice=neighbors",
    ),
    (
        {"bias": 0.3, "token_choice": "policy", "tokens": 4},
        "bias has no effect on token_choice=policy; it needs token_choice=biased",
    ),
    (
        {"gap": 0.3, "token_choice": "top_k", "tokens": 4},
        "gap has no effect on token_choice=top_k; it needs token_choice=targeted",
    ),
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


@pytest.mark.parametrize("share", [math.nan, -0.1])
def test_options_check_themselves_in_python(share):
    with pytest.raises(ValueError, match=rf"^roll_in_share is {share}; it must be in \[0, 1\]$"):
        MixedRollIn(share)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["reference", "cost"])
def test_choices_are_those_of_their_type(name):
    with pytest.raises(ValueError, match=f"^{name} is 'Whatever'; it must be one of "):
        SEARNN(**{name: "Whatever"})


def test_every_setting_is_described():
    for setting in list_settings(SEARNN).values():
        assert setting.summary
        assert setting.summary.endswith(".")


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
        "roll_in": "learned",
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
    """Learned roll-in, mixed roll-out, all cells and tokens, KL; the cost is the task's."""
    method = SEARNN()
    assert method.roll_in == LearnedRollIn()
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
        (f"{__name__}:surplus", "SEARNN.reference is None: name the policy that suits your own "
         "cost"),
    ],
)  # fmt: skip
def test_addresses_of_costs_that_do_not_do(address, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        searnn(cost=address).check(Vocabulary.build("abc", eos=True))


# What choices do

NEAR = {"token_choice": "neighbors", "tokens": 4, "neighbors": 3}
FEW = {"token_choice": "top_k", "tokens": 3}
DIFFER = {
    "roll_in": [{"roll_in": kind} for kind in ("reference", "learned", "mixed", "mixed_cells")],
    "roll_in_share": [{"roll_in": "mixed", "roll_in_share": s} for s in (0.2, 0.5, 0.8)],
    "cells' share": [{"roll_in": "mixed_cells", "roll_in_share": s} for s in (0.2, 0.5, 0.8)],
    "roll_out": [
        *({"roll_out": kind} for kind in ("reference", "learned", "mixed", "focused")),
        {"roll_out": "focused", "focus": 2},
        {"roll_out": "focused", "focus": 1, "focus_end": 9},
    ],
    "roll_out_share": [{"roll_out_share": share} for share in (0.2, 0.5, 0.8)],
    "cost": [{"cost": cost} for cost in ("edit_distance", "bleu", "bleu_1", "gleu")],
    "reference": [
        {**TAUGHT, "cost": "bleu", "reference": name}
        for name in ("copy", "best_suffix_bleu_1", "best_suffix_bleu", "best_suffix_gleu",
                     "min_edit_distance")
    ],
    "cell_loss": [{"cell_loss": name} for name in CELL_LOSSES],
    "cells": [{"cells": count} for count in (None, 1, 2, 3)],
    "token_choice": [
        {}, FEW, NEAR,
        *({"token_choice": kind, "tokens": 3} for kind in ("uniform", "policy", "biased")),
        {"token_choice": "targeted", "tokens": 3, "gap": 0.2},
    ],
    "tokens": [{**FEW, "tokens": count} for count in (1, 2, 3)],
    "neighbors": [{**NEAR, "neighbors": count} for count in (1, 2, 3)],
    "gap": [{"token_choice": "targeted", "tokens": 6, "gap": gap} for gap in (0.0, 0.3, 1.0)],
    "stretch": [{**LEARNED, "stretch": s} for s in (1.0, 1.5, 3.0)],
    "warm_up": [{"warm_up": share} for share in (0.0, 0.5)],
}  # fmt: skip


def outcomes(variants, policy, batch):
    base = {"cost": "gleu", "alpha": 5.0}
    for settings in variants:
        whole = {**base, **settings}
        if whole.get("cell_loss", "kl") in ("ll", "consistent"):
            del whole["alpha"]
        yield float(searnn(**whole).loss(policy, batch, CLOCK).total.detach())


@pytest.mark.parametrize("name", DIFFER)
def test_every_choice_makes_a_difference(name):
    policy = tiny_policy(6, attention="general", limit=20, seed=4)
    batch = tiny_batch(policy, lengths=(4,) * 8, targets=(6, 5, 3, 6, 4, 7, 2, 6))
    losses = list(outcomes(DIFFER[name], policy, batch))
    assert len({round(loss, 9) for loss in losses}) == len(losses)


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.9])
def test_the_bias_draws_improbable_tokens_oftener(bias):
    """The share of the best token among those drawn beside the reference falls with the bias."""
    policy = tiny_policy(6, attention="general", limit=20, seed=4)
    batch = tiny_batch(policy, lengths=(4,) * 100, targets=(4,) * 100)
    settings = {"cost": "gleu", "roll_in": "reference", "roll_out": "learned", "tokens": 2}
    shares = []
    for choice in ({"token_choice": "biased", "bias": bias}, {"token_choice": "policy"}):
        found = searnn(**settings, **choice).search(policy, batch, CLOCK)
        scores = policy.force(batch.source, batch.inputs(policy.vocabulary.bos)).logits(batch.mask)
        other = batch.target[batch.mask]
        scores = scores.scatter(1, other[:, None], -math.inf)
        drawn = found.tokens[found.tokens != other[:, None]]
        shares.append(float((drawn == scores.argmax(1)).double().mean()))
    assert shares[0] < shares[1]


def test_an_endless_stretch_leaves_the_limit_to_the_policy():
    policy = tiny_policy(4, attention="general", limit=20, seed=2)
    with torch.no_grad():
        policy.output.bias[3] = -1e9
    batch = tiny_batch(policy, targets=(4, 3, 2, 4))
    method = searnn(cost="gleu", stretch=1e12)
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
