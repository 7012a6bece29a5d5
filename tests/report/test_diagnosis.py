"""A diagnosis in words: each conclusion follows from the intervals."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from freerun.evaluation import AccumulatedErrors, ContinuationComparison, ExposureBias, Interval
from freerun.report.diagnosis import (
    describe_accumulated_errors,
    describe_continuations,
    describe_exposure_bias,
    list_continuations,
    list_divergences,
    list_rates,
)
from freerun.report.diagnosis_page import errors_by_length, errors_by_position

NONE = Interval(nan, nan, nan)
SUFFERS = ExposureBias(
    sentences=100,
    tokens=1_000,
    after_reference=Interval(0.031, 0.03, 0.032),
    after_own=Interval(0.079, 0.07, 0.09),
    excess=Interval(0.048, 0.04, 0.05),
    share=Interval(0.6076, 0.55, 0.66),
    excess_per_sentence=Interval(0.48, 0.4, 0.5),
    probability_excess=Interval(0.04, 0.03, 0.05),
    amplification=Interval(0.42, 0.37, 0.47),
    own_by_position=[0.1],
    paired_by_position=[0.03],
    count_by_position=[100],
)


def test_a_model_that_suffers():
    assert describe_exposure_bias(SUFFERS) == [
        "Your model errs on 3.10 % of tokens after a right prefix and 7.90 % after its own: 61 % "
        "of its errors come from earlier ones (95 % interval 55 % to 66 %). At most 4.80 points "
        "can be gained by a method against exposure bias.",
        "A wrong token in a right place is followed by 0.42 further errors on average (95 % "
        "interval 0.37 to 0.47).",
    ]
    assert describe_exposure_bias(SUFFERS, "freerun compare digits")[1] == (
        "What to try first: freerun compare digits"
    )
    little = replace(SUFFERS, excess=Interval(0.02, 0.01, 0.03))
    assert describe_exposure_bias(little, "freerun compare digits")[2] == (
        "With an excess under 3 points, a method may also do harm: compare several seeds "
        "(--seeds 3)."
    )
    fewer = replace(SUFFERS, amplification=Interval(-0.36, -0.43, -0.3))
    assert describe_exposure_bias(fewer)[1] == (
        "A wrong token in a right place is followed by 0.36 fewer errors on average (95 % "
        "interval 0.30 to 0.43)."
    )
    assert list_rates(SUFFERS)[2] == (
        "excess over the nearest correct prefixes",
        "4.80 %  (4.00 % to 5.00 %)",
    )


@pytest.mark.parametrize(
    ("excess", "words"),
    [
        (
            Interval(0.001, -0.002, 0.004),
            "No effect of its own errors is visible (difference 0.10 points, 95 % interval -0.20 "
            "to 0.40): a method against exposure bias is unlikely to help.",
        ),
        (
            Interval(-0.01, -0.02, -0.005),
            "It is wrong less often after its own output than after correct prefixes: a method "
            "against exposure bias has nothing to gain here.",
        ),
    ],
)
def test_a_model_that_does_not(excess, words):
    assert describe_exposure_bias(replace(SUFFERS, excess=excess))[1] == words


def test_a_model_that_has_hardly_learned():
    found = replace(SUFFERS, after_own=Interval(0.9, 0.8, 1.0))
    assert describe_exposure_bias(found, "freerun compare digits")[:2] == [
        "Your model errs on 85.20 % of tokens after a right prefix and 90.00 % after its own.",
        "It has hardly learned the task, so its own mistakes do not matter yet: train it longer, "
        "and check the data and its learning rate.",
    ]


def test_a_model_without_errors():
    zero = Interval(0.0, 0.0, 0.0)
    found = replace(SUFFERS, after_own=zero, excess=zero, share=NONE, amplification=NONE)
    assert describe_exposure_bias(found)[1:] == [
        "It makes no errors on these examples, so there is nothing to explain."
    ]
    assert list_rates(found)[4][1] == list_rates(found)[6][1] == "–"


ACCUMULATES = AccumulatedErrors(
    sentences=100,
    tokens=6_400,
    length=3,
    after_reference=Interval(0.12, 0.11, 0.13),
    after_own=Interval(0.18, 0.16, 0.2),
    accumulated=Interval(4.5, 4.2, 4.8),
    excess_percent=Interval(50.0, 40.0, 60.0),
    regret_by_length=[0.12, 0.32, 0.54],
    error_by_length=[0.12, 0.12, 0.12],
    accumulated_by_length=[1.0, 2.67, 4.5],
    excess_percent_by_length=[0.0, 33.3, 50.0],
)


def test_errors_that_accumulate():
    rates = (
        "Over the first 3 tokens, your model diverges from the oracle by 0.1200 nats per token "
        "after the references and 0.1800 nats after its own text"
    )
    assert describe_accumulated_errors(ACCUMULATES, "freerun compare text") == [
        f"{rates}, which is 50 % more (95 % interval 40.0 % to 60.0 %): its errors accumulate.",
        "What to try first: freerun compare text",
    ]
    assert describe_accumulated_errors(
        replace(ACCUMULATES, excess_percent=Interval(1.0, -2.0, 4.0)), "freerun compare text"
    ) == [
        f"{rates}.",
        "No accumulation of errors is visible: the difference is 1.0 % (95 % interval -2.0 % to "
        "4.0 %).",
    ]
    less = replace(ACCUMULATES, excess_percent=Interval(-30.0, -40.0, -20.0))
    assert describe_accumulated_errors(less) == [
        f"{rates}, which is 30 % less (95 % interval -40.0 % to -20.0 %).",
        "Its errors do not accumulate, as far as the oracle is right about such text.",
    ]
    assert list_divergences(ACCUMULATES) == [
        ("nats per token after references, ε(3)", "0.1200  (0.1100 to 0.1300)"),
        ("nats per token after own text, R(3)/3", "0.1800  (0.1600 to 0.2000)"),
        ("accumulated errors, AccErr(3)", "4.50  (4.20 to 4.80)"),
        ("excess, %ExAccErr(3)", "50.0 %  (40.0 % to 60.0 %)"),
    ]


def test_an_oracle_with_nothing_to_judge():
    same = replace(ACCUMULATES, accumulated=NONE, excess_percent=NONE)
    assert (
        describe_accumulated_errors(same)[1] == "Where the references lead, it equals the oracle."
    )
    assert list_divergences(same)[3][1] == "–"
    assert describe_accumulated_errors(replace(ACCUMULATES, length=1)) == [
        "At least half of the outputs or references end at once: nothing can accumulate."
    ]


def test_the_plot_has_accumulated_errors_and_the_line_without_accumulation():
    own, none = errors_by_length(ACCUMULATES).axes[0].get_lines()
    assert own.get_xydata().tolist() == [[1, 1], [2, 2.67], [3, 4.5]]
    assert none.get_xydata().tolist() == [[1, 1], [2, 2], [3, 3]]


def test_text_that_repeats_itself():
    found = ContinuationComparison(
        sentences=9,
        lengths=[8],
        counts=[9],
        own_repetition=[0.2],
        real_repetition=[0.05],
        repetition_excess=[Interval(0.15, 0.1, 0.2)],
        own_entropy=[3.0],
        real_entropy=[3.5],
        entropy_excess=[Interval(-0.5, -1.1, 0.1)],
    )
    first, second, third = describe_continuations(found)
    assert first == (
        "In the first 8 tokens of its continuations, 20.00 % of 4-grams are repeated; in real "
        "ones, 5.00 %: its text repeats itself more (difference 15.00 points, 95 % interval 10.00 "
        "to 20.00)."
    )
    assert second == (
        "The entropy of its 4-grams is 3.0000 nats, that of real ones 3.5000 nats: no difference "
        "is visible (difference -0.5000 nats, 95 % interval -1.1000 to 0.1000)."
    )
    assert "--oracle" in third
    assert list_continuations(found)[0] == (
        "repetition minus that of real text, 8 tokens, in points",
        "15.00  (10.00 to 20.00)",
    )
    calm = replace(found, repetition_excess=[Interval(0.0, -0.1, 0.1)])
    assert len(describe_continuations(calm)) == 2
    far = replace(found, mauve=[0.25])
    assert describe_continuations(far)[2] == (
        "MAUVE of the two is 0.2500, and at most 1; it is unreliable for few texts, here 9."
    )
    assert list_continuations(far)[2:] == [("MAUVE, 8 tokens", "0.2500")]


def test_the_plot_by_position_has_the_number_of_outputs():
    found = replace(
        SUFFERS,
        own_by_position=[0.1, 0.25, 0.5],
        paired_by_position=[0.1, 0.125, 0.0],
        count_by_position=[600, 60, 49],
    )
    upper, lower = errors_by_position(found).axes
    own, paired = upper.get_lines()
    assert own.get_xydata().tolist() == [[1, 10], [2, 25]]
    assert paired.get_xydata().tolist() == [[1, 10], [2, 12.5]]
    assert [bar.get_height() for bar in lower.patches] == [600, 60]
    assert lower.get_xlabel() == (
        "position in the output\n(3 and later, with under 50 outputs, not shown)"
    )
