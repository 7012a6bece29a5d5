"""The settings of SEARNN, checked against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from freerun.costs import Cost, CostName, named_cost
from freerun.losses import CellLossName
from freerun.methods.base import Method, check_choice
from freerun.methods.searnn.candidates import CellChoice, TokenChoice
from freerun.references import FITTING, Reference, ReferenceName, named_reference
from freerun.vocabulary import Vocabulary

OF_EQUAL_LENGTHS = ("hamming", "hamming_total")
TO_THE_LENGTH = ("copy", "max_f1")


def goal_of(settings: SearchSettings, vocabulary: Vocabulary) -> tuple[Cost, Reference]:
    """The cost and the reference policy for outputs of this vocabulary.

    Raises:
        ValueError: where one is missing, or they do not suit each other or the vocabulary.
    """
    cost, reference = settings.cost, settings.reference
    if cost is None:
        raise ValueError("SEARNN.cost is None: name a cost; training by a task takes the task's")
    symbols, unknown = vocabulary.symbols, vocabulary.unknown
    if isinstance(cost, str):
        reference = reference or FITTING[cost]
        if vocabulary.eos is not None and cost in OF_EQUAL_LENGTHS:
            raise ValueError(
                f"cost={cost} compares equal lengths, but these outputs end in eos, at any "
                "length: take edit_distance"
            )
        cost = named_cost(cost, symbols, unknown)
    if not settings.taught:
        reference = "copy"  # never asked
    if reference is None:
        raise ValueError("SEARNN.reference is None: name the policy that suits your own cost")
    if vocabulary.eos is None and reference not in TO_THE_LENGTH:
        raise ValueError(
            f"reference={reference} ends at any length, but these outputs are as long as their "
            f"sources: take {' or '.join(TO_THE_LENGTH)}"
        )
    return cost, named_reference(reference, symbols, unknown)


RollIn = Literal["reference", "learned", "mixed", "mixed_cells"]
RollOut = Literal["reference", "learned", "mixed", "focused"]
Writing = Literal["greedy", "sample"]
Normalisation = Literal["cells", "sentences"]
Precision = Literal["training", "bfloat16"]

WITH_ALPHA = ("kl", "inverse_kl", "js", "llcas", "structured_hinge", "l2")
WITH_SOFTMAX = ("ll", "kl", "inverse_kl", "js", "llcas")
USUAL_ALPHA = 100.0


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Method):
    """What is searched, and what is made of it.

    Args:
        roll_in: who writes the prefixes: the `reference` (teacher forcing), the policy itself
            (`learned`, greedily), either by a coin for each sentence (`mixed`), or either by a coin
            for each cell (`mixed_cells`), where the reference policy continues what was written.
        roll_in_share: the probability of the reference in a mixed roll-in (default 0.5).
        roll_out: who finishes a sentence after a token was tried: the `reference` policy, the
            policy itself (`learned`), either by a coin for each sentence (`mixed`), or the policy
            for a few tokens and then the reference (`focused`: Goodman, Vlachos, Naradowsky 2016).
        roll_out_share: the probability of the reference in a mixed roll-out (default 0.5).
        focus: the tokens that the policy writes in a focused roll-out (default 1).
        focus_end: their number at the end of training, towards which it grows by equal steps
            (default: it stays).
        writing: how the policy writes in a roll-out: `greedy`, or `sample`.
        roll_outs: how many sampled roll-outs of each token are averaged.
        common_numbers: sample with the same random numbers for all tokens of a cell, so that costs
            differ by the tokens rather than by luck.
        cost: Δ, what an output costs; left out, what the task says. In Python also a function of
            token tensors, or a `freerun.costs.PythonCost`.
        reference: the reference policy; left out, the one that suits the cost.
        cell_loss: what becomes of the scores and costs of a cell; see `freerun.losses`.
        alpha: how much costs count, above 0; for ll and consistent there is none (default 100:
            see the page of SEARNN on how to choose it).
        all_labels: take the softmax over all tokens instead of over those that were tried.
        normalisation: `cells` sums over cells, as in the paper; `sentences` gives every sentence
            the same weight, which depends on how a batch is split.
        cell_choice: which cells of a sentence are searched.
        cells: how many of them, at most.
        token_choice: which tokens are tried at a cell; the reference token always is.
        tokens: how many of them, at most.
        neighbours: how many of them are taken from around the cell in the target, the reference
            token included (default 10).
        bias: the exponent b of token_choice=biased, which draws by p^b; in [0, 1) (default 0.5).
        gap: the largest difference of probability to the best token where token_choice=targeted; in
            [0, 1] (default 0.5).
        warm_up: the share of the updates, at the start of training, that are maximum likelihood; in
            [0, 1).
        stretch: the longest sequence, as a multiple of the target with its eos; at least 1.
        at_once: the most roll-outs that are run together, which bounds memory.
        roll_out_precision: what roll-outs multiply in: `training`, whatever training does, or
            `bfloat16`, which is quicker and may write another token where scores are close.

    Raises:
        ValueError: where a setting is out of range, missing, or has no effect beside the others.
    """

    roll_in: RollIn = "learned"
    roll_in_share: float | None = None
    roll_out: RollOut = "mixed"
    roll_out_share: float | None = None
    focus: int | None = None
    focus_end: int | None = None
    writing: Writing = "greedy"
    roll_outs: int = 1
    common_numbers: bool = False
    cost: CostName | Cost | None = None
    reference: ReferenceName | None = None
    cell_loss: CellLossName = "kl"
    alpha: float | None = None
    all_labels: bool = False
    normalisation: Normalisation = "cells"
    cell_choice: CellChoice = "all"
    cells: int | None = None
    token_choice: TokenChoice = "all"
    tokens: int | None = None
    neighbours: int | None = None
    bias: float | None = None
    gap: float | None = None
    warm_up: float = 0.0
    stretch: float = 1.5
    at_once: int = 16_384
    roll_out_precision: Precision = "training"

    CHOICES: ClassVar[dict[str, Any]] = {
        "roll_in": RollIn,
        "roll_out": RollOut,
        "writing": Writing,
        "cell_loss": CellLossName,
        "normalisation": Normalisation,
        "cell_choice": CellChoice,
        "token_choice": TokenChoice,
        "roll_out_precision": Precision,
    }

    def __post_init__(self) -> None:
        """Check the ranges, and that nothing is asked for in vain."""
        for name, literal in self.CHOICES.items():
            check_choice(name, getattr(self, name), literal)
        if self.reference is not None:
            check_choice("reference", self.reference, ReferenceName)
        if isinstance(self.cost, str):
            check_choice("cost", self.cost, CostName)
        for name, low, high in (
            ("roll_in_share", 0, 1),
            ("roll_out_share", 0, 1),
            ("focus", 0, math.inf),
            ("focus_end", 0, math.inf),
            ("roll_outs", 1, math.inf),
            ("cells", 1, math.inf),
            ("tokens", 1, math.inf),
            ("neighbours", 1, math.inf),
            ("gap", 0, 1),
            ("stretch", 1, math.inf),
            ("at_once", 1, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                above = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
                raise ValueError(f"{name} is {value}; it must be {above}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}; it must be finite and above 0")
        if self.bias is not None and not 0 <= self.bias < 1:
            raise ValueError(f"bias is {self.bias}; it must lie in [0, 1)")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up is {self.warm_up}; it must lie in [0, 1)")
        self._check_needed()
        self._check_effects()

    def _check_needed(self) -> None:
        for choice, count in (("cell_choice", "cells"), ("token_choice", "tokens")):
            chosen = getattr(self, choice)
            if chosen != "all" and getattr(self, count) is None:
                raise ValueError(f"{choice}={chosen} needs {count}, how many at most")
            if chosen == "all" and getattr(self, count) is not None:
                raise ValueError(f"{count} has no effect on {choice}=all; say how to choose them")
        if self.token_choice == "neighbours" and self.around >= (self.tokens or 0):
            raise ValueError(
                f"neighbours is {self.around}; it must be below tokens, of which they are a part"
            )

    def _check_effects(self) -> None:
        mixed = ("mixed", "mixed_cells")
        written = self.roll_out != "reference"
        sampled = self.writing == "sample" and written
        alone = written or self.roll_in != "reference"
        for name, works, where in (
            ("roll_in_share", self.roll_in in mixed, "a mixed roll_in"),
            ("roll_out_share", self.roll_out == "mixed", "roll_out=mixed"),
            ("focus", self.roll_out == "focused", "roll_out=focused"),
            ("focus_end", self.roll_out == "focused", "roll_out=focused"),
            ("roll_outs", sampled, "writing=sample"),
            ("common_numbers", sampled, "writing=sample"),
            ("writing", written, "a roll_out by the policy"),
            ("roll_out_precision", written, "a roll_out by the policy"),
            ("at_once", written, "a roll_out by the policy"),
            ("stretch", alone, "a roll_in or roll_out by the policy"),
            ("reference", self.taught, "a reference policy in use"),
            ("alpha", self.cell_loss in WITH_ALPHA, f"cell_loss {', '.join(WITH_ALPHA)}"),
            ("all_labels", self.token_choice != "all", "a choice of tokens"),
            ("all_labels", self.cell_loss in WITH_SOFTMAX, f"cell_loss {', '.join(WITH_SOFTMAX)}"),
            ("neighbours", self.token_choice == "neighbours", "token_choice=neighbours"),
            ("bias", self.token_choice == "biased", "token_choice=biased"),
            ("gap", self.token_choice == "targeted", "token_choice=targeted"),
        ):
            if getattr(self, name) != type(self).__dataclass_fields__[name].default and not works:
                raise ValueError(f"{name} has no effect here; it needs {where}")

    @property
    def taught(self) -> bool:
        """Whether a reference policy is asked for anything."""
        taught = self.roll_out != "learned" or self.roll_in == "mixed_cells"
        return taught or self.token_choice != "all"

    @property
    def around(self) -> int:
        """How many tokens of a cell are taken from around it in the target."""
        return 10 if self.neighbours is None else self.neighbours
