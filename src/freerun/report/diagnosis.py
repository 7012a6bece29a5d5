"""A diagnosis in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isnan

from freerun.evaluation import AccumulatedErrors, ContinuationComparison, ExposureBias, Interval

UNCERTAIN = 0.03
"""With a smaller excess, scheduled sampling did harm in some seeds (docs/results/diagnosis.md)."""

UNTRAINED = 0.8
"""A model that errs on more tokens than this after right prefixes has hardly learned its task."""


def describe_exposure_bias(found: ExposureBias, command: str | None = None) -> list[str]:
    """Say what the errors of a model come from, and what can be gained; one line per statement.

    Args:
        found: the measurement.
        command: the command that compares methods for this model, to be named if there is anything
            to gain.
    """
    own, excess = found.after_own, found.excess
    rates = (
        f"Your model errs on {_percent(own.value - excess.value)} of tokens after a right prefix "
        f"and {_percent(own.value)} after its own"
    )
    lines = [f"{rates}."]
    if not own.value:
        lines.append("It makes no errors on these examples, so there is nothing to explain.")
    elif own.value - excess.value > UNTRAINED:
        lines.append(
            "It has hardly learned the task, so its own mistakes do not matter yet: train it "
            "longer, and check the data and its learning rate."
        )
    elif excess.low > 0:
        lines = [
            f"{rates}: {_whole_percent(found.share.value)} of its errors come from earlier ones "
            f"(95 % interval {_span(found.share, _whole_percent)}). At most "
            f"{_points(excess.value)} can be gained by a method against exposure bias."
        ]
        if command is not None:
            lines.append(f"What to try first: {command}")
            if excess.value < UNCERTAIN:
                lines.append(
                    f"With an excess under {100 * UNCERTAIN:.0f} points, a method may also do "
                    "harm: compare several seeds (--seeds 3)."
                )
    elif excess.high < 0:
        lines.append(
            "It is wrong less often after its own output than after correct prefixes: a method "
            "against exposure bias has nothing to gain here."
        )
    else:
        lines.append(
            f"No effect of its own errors is visible (difference {_points(excess.value)}, 95 % "
            f"interval {_span(excess, _hundredfold)}): a method against exposure bias is unlikely "
            "to help."
        )
    further = found.amplification
    if not isnan(further.value):
        more, number = "further errors", "{:.2f}".format
        if further.high < 0:
            more, further = "fewer errors", Interval(-further.value, -further.high, -further.low)
        lines.append(
            f"A wrong token in a right place is followed by {number(further.value)} {more} on "
            f"average (95 % interval {_span(further, number)})."
        )
    return lines


def list_rates(found: ExposureBias) -> list[tuple[str, str]]:
    """Return the name of every rate and its value with its interval, for a table."""
    rates: tuple[tuple[str, Interval, Callable[[float], str]], ...] = (
        ("errors per token after correct prefixes", found.after_reference, _percent),
        ("errors per token after own prefixes", found.after_own, _percent),
        ("excess over the nearest correct prefixes", found.excess, _percent),
        ("the same, in probability", found.probability_excess, _percent),
        ("share of errors that come from earlier ones", found.share, _percent),
        ("excess errors per sentence", found.excess_per_sentence, "{:.3f}".format),
        ("further errors after a wrong token", found.amplification, "{:.3f}".format),
    )
    return _write_rows(rates)


def describe_accumulated_errors(found: AccumulatedErrors, command: str | None = None) -> list[str]:
    """Say whether the errors of a model accumulate, by an oracle; one line per statement.

    Args:
        found: the measurement.
        command: the command that compares methods for this model, to be named if errors accumulate.
    """
    excess = found.excess_percent
    if found.length < 2:
        return ["At least half of the outputs or references end at once: nothing can accumulate."]
    rates = (
        f"Over the first {found.length:,} tokens, your model diverges from the oracle by "
        f"{_nats(found.after_reference.value)} per token after the references and "
        f"{_nats(found.after_own.value)} after its own text"
    )
    if isnan(excess.value):
        return [f"{rates}.", "Where the references lead, it equals the oracle."]
    by = f"{abs(excess.value):.0f} %"
    interval = f"(95 % interval {_span(excess, _one_decimal)})"
    if excess.low > 0:
        lines = [f"{rates}, which is {by} more {interval}: its errors accumulate."]
        if command is not None:
            lines.append(f"What to try first: {command}")
        return lines
    if excess.high < 0:
        return [
            f"{rates}, which is {by} less {interval}.",
            "Its errors do not accumulate, as far as the oracle is right about such text.",
        ]
    return [
        f"{rates}.",
        f"No accumulation of errors is visible: the difference is {_one_decimal(excess.value)} "
        f"{interval}.",
    ]


def list_divergences(found: AccumulatedErrors) -> list[tuple[str, str]]:
    """Return the name of every figure and its value with its interval, for a table."""
    length, nats = found.length, _four_decimals
    return _write_rows(
        (
            (f"nats per token after references, ε({length})", found.after_reference, nats),
            (f"nats per token after own text, R({length})/{length}", found.after_own, nats),
            (f"accumulated errors, AccErr({length})", found.accumulated, "{:.2f}".format),
            (f"excess, %ExAccErr({length})", found.excess_percent, _one_decimal),
        )
    )


def describe_continuations(found: ContinuationComparison) -> list[str]:
    """Say how own continuations differ from real ones; one line per statement."""
    repeated, varied = found.repetition_excess[-1], found.entropy_excess[-1]
    lines = [
        f"In the first {found.lengths[-1]:,} tokens of its continuations, "
        f"{_percent(found.own_repetition[-1])} of 4-grams are repeated; in real ones, "
        f"{_percent(found.real_repetition[-1])}: "
        f"{_compare(repeated, 'its text repeats itself more', 'its text repeats itself less')} "
        f"(difference {_points(repeated.value)}, 95 % interval {_span(repeated, _hundredfold)}).",
        f"The entropy of its 4-grams is {_nats(found.own_entropy[-1])}, that of real ones "
        f"{_nats(found.real_entropy[-1])}: "
        f"{_compare(varied, 'its text is more varied', 'its text is less varied')} "
        f"(difference {_nats(varied.value)}, 95 % interval {_span(varied, _four_decimals)}).",
    ]
    if found.mauve:
        lines.append(
            f"MAUVE of the two is {found.mauve[-1]:.4f}, and at most 1; it is unreliable for few "
            f"texts, here {found.counts[-1]:,}."
        )
    if repeated.low > 0 or varied.high < 0:
        lines.append(
            "Such text may be due to the decoding or to earlier errors: with --oracle, a better "
            "model tells how far errors accumulate."
        )
    return lines


def list_continuations(found: ContinuationComparison) -> list[tuple[str, str]]:
    """Return the name of every difference to real text and its value, for a table."""
    rows: list[tuple[str, Interval, Callable[[float], str]]] = []
    for i, length in enumerate(found.lengths):
        than = f" minus that of real text, {length} tokens"
        rows += [
            (f"repetition{than}, in points", found.repetition_excess[i], _hundredfold),
            (f"entropy{than}, in nats", found.entropy_excess[i], _four_decimals),
        ]
    distances = zip(found.lengths, found.mauve, strict=False)  # there may be none
    return [*_write_rows(rows), *((f"MAUVE, {n} tokens", f"{value:.4f}") for n, value in distances)]


def _compare(difference: Interval, more: str, less: str) -> str:
    if difference.low > 0:
        return more
    return less if difference.high < 0 else "no difference is visible"


def _write_rows(
    rates: Iterable[tuple[str, Interval, Callable[[float], str]]],
) -> list[tuple[str, str]]:
    return [
        (name, "–" if isnan(each.value) else f"{write(each.value)}  ({_span(each, write)})")
        for name, each, write in rates
    ]


def _span(each: Interval, write: Callable[[float], str]) -> str:
    return f"{write(each.low)} to {write(each.high)}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _points(value: float) -> str:
    return f"{_hundredfold(value)} points"


def _hundredfold(value: float) -> str:
    return f"{100 * value:.2f}"


def _one_decimal(value: float) -> str:
    return f"{value:.1f} %"


def _nats(value: float) -> str:
    return f"{_four_decimals(value)} nats"


def _four_decimals(value: float) -> str:
    return f"{value:.4f}"
