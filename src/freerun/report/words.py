"""The answer of a comparison in words: which method is best, by how much, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from freerun.evaluation import MAX_SEEDS, is_clear
from freerun.report.labels import ResultsFile, arrow, label, scale, unit


def find_best_method(results: ResultsFile) -> str:
    """Return the method with the best mean of the headline metric, except the baseline.

    It is one of those that are clearly better than the baseline, if there are any. If there is only
    the baseline, return it.
    """
    metric, sign = results["task"]["metric"], 1 if results["task"]["greater_is_better"] else -1
    methods, base = results["methods"], results["base"]
    names = [name for name in methods if name != base] or list(methods)
    if base not in (None, *names):
        found = {name: methods[name]["difference_to_mle"][metric] for name in names}
        clear = [name for name in names if is_clear(found[name]) and sign * found[name]["mean"] > 0]
        names = clear or names
    return max(names, key=lambda name: sign * methods[name]["test"][metric]["mean"])


def describe_comparison(results: ResultsFile) -> list[str]:
    """Say which method is best, by how much, and what it costs; one sentence per line.

    Args:
        results: the contents of results.json.
    """
    words = _Words(results)
    lines = words.say_differences() if words.others else words.say_values()
    return [*lines, *words.say_time(), *words.say_limits()]


class _Words:
    """Sentences about the headline metric of a comparison."""

    def __init__(self, results: ResultsFile) -> None:
        self.results, self.methods = results, results["methods"]
        self.base: str | None = results["base"]
        self.metric: str = results["task"]["metric"]
        self.greater: bool = results["task"]["greater_is_better"]
        self.best = find_best_method(results)
        self.others = [name for name in self.methods if self.base not in (None, name)]

    def get_value(self, name: str) -> str:
        """Return the metric of a method."""
        mean = self.methods[name]["test"][self.metric]["mean"]
        return f"{mean * scale(self.metric):.2f} {unit(self.metric)}".rstrip()

    def get_difference(self, name: str) -> Mapping[str, Any]:
        """Return the difference of a method to the baseline."""
        found: Mapping[str, Any] = self.methods[name]["difference_to_mle"][self.metric]
        return found

    def is_better(self, name: str) -> bool:
        """Return whether the mean of a method is better than that of the baseline."""
        return bool((self.get_difference(name)["mean"] > 0) == self.greater)

    def say_amount(self, name: str) -> str:
        """Return by how much a method differs, and its interval."""
        found, points = self.get_difference(name), " points" if unit(self.metric) else ""
        said = f"{abs(found['mean']) * scale(self.metric):.2f}{points}"
        if found["low"] is None:
            return said
        # In the direction of the difference, so that negative ends are on the other side.
        ends = sorted(
            math.copysign(scale(self.metric), found["mean"]) * found[end] for end in ("low", "high")
        )
        return f"{said} (95 % interval {ends[0]:.2f} to {ends[1]:.2f})"

    def say_differences(self) -> list[str]:
        """Return sentences on all methods, the best one first."""
        base = str(self.base)
        ranked = sorted(
            self.others, key=lambda name: self.get_difference(name)["mean"], reverse=self.greater
        )
        clear = [name for name in ranked if is_clear(self.get_difference(name))]  # type: ignore[arg-type]
        better = [name for name in clear if self.is_better(name)]
        lines = []
        if better:
            best, way = self.best, "higher" if self.greater else "lower"
            what = "best" if best == ranked[0] else f"clearly better than {base}"
            lines.append(
                f"{best} is {what}: its {label(self.metric)} is {self.get_value(best)}, that of "
                f"{base} {self.get_value(base)}; it is {way} by {self.say_amount(best)}."
            )
            lines += self._say_price(best)
            lines += [
                f"{name} is better than {base} by {self.say_amount(name)}."
                for name in better
                if name != best
            ]
        else:
            lines.append(self._say_nothing_clear())
        lines += [
            f"{name} is worse than {base} by {self.say_amount(name)}."
            for name in clear
            if name not in better
        ]
        return lines + [self._say_unclear(name) for name in ranked if name not in clear]

    def _say_nothing_clear(self) -> str:
        """Return a sentence for when no method is clearly better than the baseline."""
        base, metric = str(self.base), label(self.metric)
        if len(self.results["seeds"]) < 2:
            return (
                f"One seed cannot tell whether a method has a better {metric} than the "
                f"{self.get_value(base)} of {base}. At least 2 seeds are needed; their results "
                "will say how many are enough."
            )
        return (
            f"Nothing helps clearly: the {metric} of no method is better than the "
            f"{self.get_value(base)} of {base} beyond what chance explains."
        )

    def _say_price(self, name: str) -> list[str]:
        """Return sentences on the other metrics, if a method is clearly worse in them."""
        lines = []
        for metric, found in self.methods[name]["difference_to_mle"].items():
            worse = {"↑": found["mean"] < 0, "↓": found["mean"] > 0}.get(arrow(metric), False)
            if metric in self.results["majority"] and worse and is_clear(found):
                amount = f"{abs(found['mean']) * scale(metric):.2f}"
                points = " points" if unit(metric) else ""
                lines.append(f"But its {label(metric)} is worse, by {amount}{points}.")
        return lines

    def _say_unclear(self, name: str) -> str:
        """Return a sentence on a difference that may be chance."""
        found = self.get_difference(name)
        way = "better" if self.is_better(name) else "worse"
        said = f"{name} is {way} than {self.base} by {self.say_amount(name)} on average"
        if not found["mean"]:
            said = f"{name} is as good as {self.base} on average"
        if found["low"] is None:
            return f"{said}; there is no interval to judge this by."
        if len(self.results["seeds"]) < 2:
            return f"{said}, which may be chance."
        needed = found.get("seeds_needed")
        count = f"about {needed}" if needed else f"more than {MAX_SEEDS:,}"
        return f"{said}, which may be chance: {count} seeds would be needed to tell."

    def say_values(self) -> list[str]:
        """Return a sentence on the best method where there is nothing to compare it with."""
        said = f"{label(self.metric)} {self.get_value(self.best)}"
        if len(self.methods) == 1:
            return [f"{self.best}: {said}. It is compared with no other method."]
        return [
            f"{self.best} has the best mean: {said}. No method is MLE, so there are no differences "
            "to it."
        ]

    def say_time(self) -> list[str]:
        """Return a sentence on the time of training."""
        budget = self.results["training"]["budget"]
        if budget is not None:
            return [f"Every method was trained for {budget:g} seconds."]
        if self.base in (None, self.best):
            return []
        relative = self.methods[self.best]["time_relative_to_mle"]["mean"]
        own, base = (
            1000 * self.methods[name]["seconds_per_update"]["mean"]
            for name in (self.best, self.base)
        )
        return [
            f"An update of {self.best} takes {relative:.2f} times as long as one of {self.base} "
            f"({own:.1f} ms and {base:.1f} ms)."
        ]

    def say_limits(self) -> list[str]:
        """Return what weakens the answer."""
        lines = []
        clear = any(is_clear(self.get_difference(name)) for name in self.others)  # type: ignore[arg-type]
        if len(self.results["seeds"]) < 2 and (clear or not self.others):
            lines.append("There is only one seed: other seeds may give other differences.")
        guess = self.results["majority"][self.metric]
        means = [entry["test"][self.metric]["mean"] for entry in self.methods.values()]
        if not any(mean > guess if self.greater else mean < guess for mean in means):
            lines.append(
                f"No model is better than a guess that ignores its source, with "
                f"{guess * scale(self.metric):.2f} {unit(self.metric)}".rstrip()
                + "."
            )
        return lines
