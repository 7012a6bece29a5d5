"""The settings of SEARNN: what is refused, in which words, and that each makes a difference."""

import dataclasses
import math
import re
from typing import get_args

import pytest
import torch

from freerun.batch import Batch
from freerun.costs import CostName
from freerun.losses import CELL_LOSSES
from freerun.methods import SEARNN, Clock
from freerun.methods.searnn.settings import WITH_ALPHA, WITH_SOFTMAX, SearchSettings
from freerun.references import ReferenceName
from freerun.settings import SettingError, build, list_settings
from freerun.vocabulary import Vocabulary
from tests.helpers import tiny_batch, tiny_policy

CLOCK = Clock(3, total=9, seed=1)
ALPHAS = "kl, inverse_kl, js, llcas, structured_hinge, l2"
LEARNED = {"roll_out": "learned"}
TAUGHT = {"roll_out": "reference"}

REFUSED = [
    # Out of range
    ({"roll_in": "mixed", "roll_in_share": -0.1}, "roll_in_share is -0.1; it must be in [0, 1]"),
    ({"roll_in": "mixed", "roll_in_share": math.nan}, "roll_in_share is nan; it must be in [0, 1]"),
    ({"roll_out_share": 1.5}, "roll_out_share is 1.5; it must be in [0, 1]"),
    ({"roll_out": "focused", "focus": -1}, "focus is -1; it must be at least 0"),
    ({"roll_out": "focused", "focus_end": -1}, "focus_end is -1; it must be at least 0"),
    ({"writing": "sample", "roll_outs": 0}, "roll_outs is 0; it must be at least 1"),
    ({"cell_choice": "first", "cells": 0}, "cells is 0; it must be at least 1"),
    ({"token_choice": "top_k", "tokens": 0}, "tokens is 0; it must be at least 1"),
    (
        {"token_choice": "neighbours", "tokens": 4, "neighbours": 0},
        "neighbours is 0; it must be at least 1",
    ),
    ({"token_choice": "targeted", "tokens": 2, "gap": 1.1}, "gap is 1.1; it must be in [0, 1]"),
    ({"stretch": 0.9}, "stretch is 0.9; it must be at least 1"),
    ({"stretch": math.nan}, "stretch is nan; it must be at least 1"),
    ({"at_once": 0}, "at_once is 0; it must be at least 1"),
    ({"alpha": 0.0}, "alpha is 0.0; it must be finite and above 0"),
    ({"alpha": math.inf}, "alpha is inf; it must be finite and above 0"),
    ({"token_choice": "biased", "tokens": 2, "bias": 1.0}, "bias is 1.0; it must lie in [0, 1)"),
    ({"token_choice": "biased", "tokens": 2, "bias": -0.5}, "bias is -0.5; it must lie in [0, 1)"),
    ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
    # Missing
    ({"cell_choice": "uniform"}, "cell_choice=uniform needs cells, how many at most"),
    ({"token_choice": "targeted"}, "token_choice=targeted needs tokens, how many at most"),
    (
        {"token_choice": "neighbours", "tokens": 10},
        "neighbours is 10; it must be below tokens, of which they are a part",
    ),
    (
        {"token_choice": "neighbours", "tokens": 3, "neighbours": 3},
        "neighbours is 3; it must be below tokens, of which they are a part",
    ),
    # In vain
    ({"cells": 3}, "cells has no effect on cell_choice=all; say how to choose them"),
    ({"tokens": 3}, "tokens has no effect on token_choice=all; say how to choose them"),
    ({"roll_in_share": 0.5}, "roll_in_share has no effect here; it needs a mixed roll_in"),
    (
        {"roll_in": "reference", "roll_in_share": 0.5},
        "roll_in_share has no effect here; it needs a mixed roll_in",
    ),
    (
        {**LEARNED, "roll_out_share": 0.5},
        "roll_out_share has no effect here; it needs roll_out=mixed",
    ),
    ({"focus": 1}, "focus has no effect here; it needs roll_out=focused"),
    ({**LEARNED, "focus_end": 3}, "focus_end has no effect here; it needs roll_out=focused"),
    ({"roll_outs": 2}, "roll_outs has no effect here; it needs writing=sample"),
    ({"common_numbers": True}, "common_numbers has no effect here; it needs writing=sample"),
    (
        {**TAUGHT, "writing": "sample"},
        "writing has no effect here; it needs a roll_out by the policy",
    ),
    (
        {**TAUGHT, "roll_out_precision": "bfloat16"},
        "roll_out_precision has no effect here; it needs a roll_out by the policy",
    ),
    ({**TAUGHT, "at_once": 8}, "at_once has no effect here; it needs a roll_out by the policy"),
    (
        {**TAUGHT, "roll_in": "reference", "stretch": 2.0},
        "stretch has no effect here; it needs a roll_in or roll_out by the policy",
    ),
    (
        {**LEARNED, "reference": "copy"},
        "reference has no effect here; it needs a reference policy in use",
    ),
    ({"cell_loss": "ll", "alpha": 1.0}, f"alpha has no effect here; it needs cell_loss {ALPHAS}"),
    (
        {"cell_loss": "consistent", "alpha": 1.0},
        f"alpha has no effect here; it needs cell_loss {ALPHAS}",
    ),
    ({"all_labels": True}, "all_labels has no effect here; it needs a choice of tokens"),
    (
        {"all_labels": True, "token_choice": "top_k", "tokens": 2, "cell_loss": "l2"},
        "all_labels has no effect here; it needs cell_loss ll, kl, inverse_kl, js, llcas",
    ),
    (
        {"neighbours": 2, "token_choice": "top_k", "tokens": 4},
        "neighbours has no effect here; it needs token_choice=neighbours",
    ),
    (
        {"bias": 0.3, "token_choice": "policy", "tokens": 4},
        "bias has no effect here; it needs token_choice=biased",
    ),
    (
        {"gap": 0.3, "token_choice": "top_k", "tokens": 4},
        "gap has no effect here; it needs token_choice=targeted",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SEARNN(**settings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [*SearchSettings.CHOICES, "reference", "cost"])
def test_choices_are_those_of_their_type(name):
    kind = {"reference": ReferenceName, "cost": CostName, **SearchSettings.CHOICES}[name]
    choices = ", ".join(get_args(kind))
    with pytest.raises(ValueError, match=f"^{name} is 'Whatever'; it must be one of {choices}$"):
        SEARNN(**{name: "Whatever"})


def test_every_range_and_every_effect_is_tried_above():
    """A refusal that is added to the settings is to be added to the list."""
    tried = {message.split()[0].split("=")[0] for _, message in REFUSED} | set(
        SearchSettings.CHOICES
    )
    tried |= {"cost", "reference", "normalisation"}
    assert {field.name for field in dataclasses.fields(SEARNN)} == tried


def test_every_setting_is_described():
    for setting in list_settings(SEARNN).values():
        assert setting.summary
        assert setting.summary.endswith(".")


def test_settings_of_text():
    """As the command line gives them."""
    method = build(
        SEARNN,
        {"cost": "bleu", "alpha": "200", "cells": "20", "cell_choice": "uniform"},
        "method 'searnn'",
    )
    assert method == SEARNN(cost="bleu", alpha=200.0, cells=20, cell_choice="uniform")
    assert build(SEARNN, {"stretch": "2"}, "").stretch == 2.0
    names = ", ".join(get_args(CostName))
    with pytest.raises(SettingError) as caught:
        build(SEARNN, {"cost": "ter"}, "method 'searnn'")
    assert str(caught.value) == f"method 'searnn': cost is 'ter'; it must be one of {names} or null"
    with pytest.raises(SettingError) as caught:
        build(SEARNN, {"focus": "1"}, "method 'searnn'")
    assert str(caught.value) == (
        "method 'searnn': focus has no effect here; it needs roll_out=focused"
    )


def test_the_defaults_are_those_of_the_paper():
    """Learned roll-in, mixed roll-out, all cells and tokens, KL; the cost is the task's."""
    method = SEARNN()
    assert (method.roll_in, method.roll_out, method.cell_loss) == ("learned", "mixed", "kl")
    assert (method.cell_choice, method.token_choice, method.normalisation) == (
        "all",
        "all",
        "cells",
    )
    assert method.cost is None
    assert method == SEARNN(**{name: s.default for name, s in list_settings(SEARNN).items()})


# What choices do

NEAR = {"token_choice": "neighbours", "tokens": 4, "neighbours": 3}
FEW = {"token_choice": "top_k", "tokens": 3}
SAMPLED = {"writing": "sample", "roll_out": "learned"}
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
    "writing": [
        LEARNED, SAMPLED, {**SAMPLED, "roll_outs": 2}, {**SAMPLED, "common_numbers": True},
    ],
    "cost": [{"cost": cost} for cost in ("edit_distance", "bleu", "bleu_1", "gleu")],
    "reference": [
        {**TAUGHT, "cost": "bleu", "reference": name}
        for name in ("copy", "best_suffix_bleu_1", "best_suffix_bleu", "best_suffix_gleu",
                     "edit_distance")
    ],
    "cell_loss": [{"cell_loss": name} for name in CELL_LOSSES],
    "normalisation": [{"normalisation": name} for name in ("cells", "sentences")],
    "cell_choice": [
        {}, *({"cell_choice": kind, "cells": 2} for kind in ("uniform", "first", "last")),
    ],
    "cells": [{"cell_choice": "first", "cells": count} for count in (1, 2, 3)],
    "token_choice": [
        {}, FEW, NEAR,
        *({"token_choice": kind, "tokens": 3} for kind in ("uniform", "policy", "biased")),
        {"token_choice": "targeted", "tokens": 3, "gap": 0.2},
    ],
    "tokens": [{**FEW, "tokens": count} for count in (1, 2, 3)],
    "neighbours": [{**NEAR, "neighbours": count} for count in (1, 2, 3)],
    "gap": [{"token_choice": "targeted", "tokens": 6, "gap": gap} for gap in (0.0, 0.3, 1.0)],
    "stretch": [{**LEARNED, "stretch": s} for s in (1.0, 1.5, 3.0)],
    "warm_up": [{"warm_up": share} for share in (0.0, 0.5)],
}  # fmt: skip


def outcomes(variants, policy, batch):
    base = {"cost": "gleu", "alpha": 5.0}
    for settings in variants:
        whole = {**base, **settings}
        if whole.get("cell_loss", "kl") not in WITH_ALPHA:
            del whole["alpha"]
        yield float(SEARNN(**whole).loss(policy, batch, CLOCK).total.detach())


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
        found = SEARNN(**settings, **choice).search(policy, batch, CLOCK)
        scores = policy.force(batch.source, batch.inputs(policy.vocabulary.bos)).logits(batch.mask)
        other = batch.target[batch.mask]
        scores = scores.scatter(1, other[:, None], -math.inf)
        drawn = found.tokens[found.tokens != other[:, None]]
        shares.append(float((drawn == scores.argmax(1)).double().mean()))
    assert shares[0] < shares[1]


@pytest.mark.parametrize("name", WITH_SOFTMAX)
def test_all_labels_take_the_softmax_over_all(name):
    """The scores of tokens that were not tried have a gradient, and otherwise none."""
    policy = tiny_policy(6, attention="general", seed=4)
    batch = tiny_batch(policy, targets=(4, 3, 2, 4))
    alpha = {"alpha": 5.0} if name in WITH_ALPHA else {}
    settings = {"cost": "gleu", "cell_loss": name, "token_choice": "top_k", "tokens": 1, **alpha}
    for all_labels in (False, True):
        method = SEARNN(**settings, roll_in="reference", all_labels=all_labels)
        total = method.loss(policy, batch, CLOCK).total
        (gradient,) = torch.autograd.grad(total, [policy.output.bias])
        assert bool(gradient.any()) == all_labels


def test_an_endless_stretch_leaves_the_limit_to_the_policy():
    policy = tiny_policy(4, attention="general", limit=20, seed=2)
    with torch.no_grad():
        policy.output.bias[3] = -1e9
    batch = tiny_batch(policy, targets=(4, 3, 2, 4))
    method = SEARNN(cost="gleu", stretch=math.inf)
    assert method.search(policy, batch, CLOCK).roll_in.lengths.tolist() == [20] * 4


def test_unknown_tokens_cost_as_much_as_wrong_ones():
    """The vocabulary's own: a policy that writes what stands for other words gains nothing."""
    words = Vocabulary.build("ab", eos=True, unknown=True)
    policy = tiny_policy(words=words, attention="general")
    batch = tiny_batch(policy, lengths=(2, 2), targets=(2, 2))
    target = torch.tensor([[0, 3], [1, 3]])
    batch = Batch(batch.ids, batch.source, target, batch.mask)
    method = SEARNN(cost="edit_distance", roll_in="reference", roll_out="reference")
    costs = method.search(policy, batch, CLOCK).costs[::2]
    assert costs.tolist() == [[1, 1, 1, 1], [1, 0, 1, 1]]
