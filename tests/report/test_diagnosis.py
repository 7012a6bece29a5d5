"""A diagnosis in words: each conclusion follows from the intervals."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from freerun.evaluation import ExposureBias, Interval
from freerun.report.diagnosis import describe_exposure_bias, list_rates

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
        "Scheduled sampling is the cheapest try: freerun compare digits"
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
            "points to 0.40 points): a method against exposure bias is unlikely to help.",
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


def test_a_model_without_errors():
    zero = Interval(0.0, 0.0, 0.0)
    found = replace(SUFFERS, after_own=zero, excess=zero, share=NONE, amplification=NONE)
    assert describe_exposure_bias(found)[1:] == [
        "It makes no errors on these examples, so there is nothing to explain."
    ]
    assert list_rates(found)[4][1] == list_rates(found)[6][1] == "–"
