"""The class of metrics, and the metrics by name."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from freerun.imports import import_extra, import_object, is_address, make_unknown_error
from freerun.metrics.statistics import Statistics, choose_best
from freerun.settings import MISSING, SettingError, convert, did_you_mean, parse_spec

Form = Literal["text", "tokens", "cells", "tags", "passages", "corrections"]
"""The form in which a metric gets outputs and references, one of each for every example:

- `text`: as text, exactly as `freerun predict` writes outputs. An output with `<unk>` equals no
  reference: if the reference contains that text itself, it is replaced by characters that the
  output does not have;
- `tokens`: as token ids; the unknown one is -1 in references, so that it equals none;
- `cells`: the same, for outputs that are as long as their references;
- `tags`: as tags O, B-TYPE and I-TYPE;
- `passages`: as text that begins with the source, for outputs that continue their sources;
- `corrections`: outputs as pairs of the source and the output as text, references as text.
"""

MetricFunction = Callable[..., float | Statistics]

TokenRows = Sequence[Sequence[int]]
"""The tokens of several outputs or references."""


@dataclass(frozen=True)
class Metric:
    """A metric of outputs, given their references.

    Args:
        name: the name of the metric.
        function: function(outputs, references, **settings), which returns the value, or the
            `Statistics` of every example that it is computed from.
        form: the form of its arguments (see `Form`).
        greater_is_better: whether higher values are better; None if neither is.
        corpus: whether it compares all outputs together with all references, instead of each with
            its own. Outputs are then truncated at the length at which references are.
        percent: whether it is a fraction, shown in percent.
        several: whether its function takes several references of each output, as lists of lists.
        library: a library that it needs, and the extra of freerun that installs it.
        sign: sign(references, **settings), which returns a signature of how it is computed; for
            metrics whose values are not comparable without it.
        check: check(**settings), which raises an error before training if the metric cannot be
            computed.
        settings: keyword arguments of the function.
    """

    name: str
    function: MetricFunction
    form: Form = "text"
    greater_is_better: bool | None = True
    corpus: bool = False
    percent: bool = True
    several: bool = False
    library: tuple[str, str] | None = None
    sign: Callable[..., str] | None = None
    check: Callable[..., object] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def __call__(
        self, outputs: Sequence[Any], references: Sequence[Any] = (), **settings: Any
    ) -> float:
        """Compute the value of `measure`."""
        return self.measure(outputs, references, **settings)[0]

    def measure(
        self, outputs: Sequence[Any], references: Sequence[Any] = (), **settings: Any
    ) -> tuple[float, Statistics | None]:
        """Compute the metric of outputs and as many references.

        Args:
            outputs: the outputs, in the form that the metric needs.
            references: a reference for each; some metrics ignore them.
            settings: settings that replace the metric's own.

        Returns:
            The value, and the statistics that it is computed from, if it is.

        Raises:
            ValueError: if there are not as many references as outputs.
            SettingError: if the function does not return a finite number.
        """
        if not self.corpus and len(outputs) != len(references):
            raise ValueError(
                f"metric {self.name!r}: there are {len(outputs)} outputs and {len(references)} "
                "references; each output needs one"
            )
        found = self.function(outputs, references, **{**self.settings, **settings})
        statistics = found if isinstance(found, Statistics) else None
        value: Any = found if statistics is None else statistics.value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number) and not isinstance(value, str):
            return number, statistics
        what = f"{value}" if isinstance(value, float) else f"a {type(value).__name__}"
        message = f"metric {self.name!r} returned {what}; it must return a finite number"
        raise SettingError(message)

    def group_references(self, references: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """Return references as the function takes them: of every output the first one, or all.

        Args:
            references: as for `measure_best`.
        """
        if not self.several or len(references) == 1:
            return references[0]
        return [list(dict.fromkeys(each)) for each in zip(*references, strict=True)]

    def measure_best(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]]
    ) -> tuple[float, Statistics | None]:
        """Compute the metric of outputs that have several references each.

        Unless the function takes several, every output is compared with the reference for which it
        is best alone, the first in case of ties.

        Args:
            outputs: the outputs, in the form that the metric needs.
            references: the first reference of every output, then the second one of every output,
                and so on; the first again where an output has no more.

        Raises:
            SettingError: if the metric is not computed from `Statistics`.
        """
        if self.several or self.corpus or len(references) == 1:
            return self.measure(outputs, self.group_references(references))
        found = [self.measure(outputs, each)[1] for each in references]
        statistics = [each for each in found if each is not None]
        if len(statistics) < len(found):
            raise SettingError(
                f"metric {self.name!r}: some examples have several references, which it can be "
                "computed for if it returns Statistics, or is decorated by metric(several=True)"
            )
        best = choose_best(statistics, greater_is_better=self.greater_is_better is not False)
        return best.value, best

    def with_settings(self, settings: Mapping[str, object], where: str) -> Metric:
        """Return the metric with these settings, which are converted if they are text.

        Raises:
            SettingError: if a setting is unknown, missing or of the wrong type.
        """
        kinds = typing.get_type_hints(self.function)
        known = self.known_settings
        for name in settings:
            if name not in known:
                raise SettingError(f"{where}: unknown setting {name!r}{did_you_mean(name, known)}")
        for name, default in known.items():
            if default is MISSING and name not in settings:
                example = f"{self.name}:{name}=…"
                raise SettingError(f"{where}: {name} is missing; write it as in {example}")
        found = {
            name: convert(value, kinds.get(name, str), f"{where}: {name}")
            for name, value in settings.items()
        }
        return dataclasses.replace(self, settings={**self.settings, **found})

    @property
    def known_settings(self) -> dict[str, object]:
        """The settings of the metric with their defaults; `MISSING` for required ones."""
        empty = inspect.Parameter.empty
        return {
            name: MISSING if parameter.default is empty else parameter.default
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def get_signature(self, references: Sequence[Any] = ()) -> str | None:
        """Return the signature of how it is computed; None if it has none.

        Args:
            references: the references, which settings such as the tokenizer of BLEU may depend on.
        """
        return None if self.sign is None else self.sign(references, **self.settings)

    def require(self) -> None:
        """Check that its library is installed.

        Raises:
            MissingExtraError: if it is not.
        """
        if self.library is not None:
            import_extra(*self.library, f"the metric {self.name}")


METRICS: dict[str, Metric] = {}
"""The metrics, by name."""


MetricSpec = str | Metric | Callable[..., Any]
"""A metric: its name and settings as text, the address of a function, or the object itself."""


def metric(
    *,
    form: Form = "text",
    greater_is_better: bool | None = True,
    corpus: bool = False,
    percent: bool = True,
    several: bool = False,
    library: tuple[str, str] | None = None,
    sign: Callable[..., str] | None = None,
    check: Callable[..., object] | None = None,
) -> Callable[[MetricFunction], Metric]:
    """Decorate a function(outputs, references) as a metric, and register it by its name.

    Its keyword-only arguments are settings, as in `bleu:tokenize=zh`. The arguments of `metric` are
    those of `Metric`.

    Raises:
        ValueError: if another metric has the same name.
    """

    def register(function: MetricFunction) -> Metric:
        there = METRICS.get(function.__name__)
        if there is not None and not _is_same(there.function, function):
            raise ValueError(
                f"there is a metric {there.name} already, {_place(there.function)}; choose "
                "another name"
            )
        found = Metric(
            name=function.__name__,
            function=function,
            form=form,
            greater_is_better=greater_is_better,
            corpus=corpus,
            percent=percent,
            several=several,
            library=library,
            sign=sign,
            check=check,
        )
        METRICS[found.name] = found
        return found

    return register


def _place(function: MetricFunction) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _is_same(one: MetricFunction, other: MetricFunction) -> bool:
    """Return whether a function is a redefinition of another, or the same one imported twice."""
    files = (inspect.unwrap(function).__code__.co_filename for function in (one, other))
    return _place(one) == _place(other) or (
        one.__qualname__ == other.__qualname__ and len(set(files)) == 1
    )


_EXAMPLE = "bleu:tokenize=zh"


def find_metrics(specs: Iterable[MetricSpec]) -> dict[str, Metric]:
    """Return the specified metrics, by name; of two with the same name, the last.

    Args:
        specs: names of `METRICS`, with settings after a colon, as in `bleu:tokenize=zh`; addresses
            of functions, such as `package.module:function` (see `find_metric`); or metrics and
            functions themselves.

    Raises:
        SettingError: if there is no such metric or setting.
        MissingExtraError: if a library that one needs is not installed.
    """
    found = [find_metric(spec) for spec in specs]
    for each in found:
        each.require()
    return {each.name: each for each in found}


def check_distinct(specs: Iterable[MetricSpec]) -> None:
    """Check that no two metrics have the same name, unless they are the same.

    Raises:
        SettingError: if two have. The message has both. Also if there is no such metric.
    """
    found: dict[str, tuple[MetricSpec, Metric]] = {}
    for spec in specs:
        each = find_metric(spec)
        other, same = found.setdefault(each.name, (spec, each))
        if same != each:
            one, two = (f"{s!r}" if isinstance(s, str) else _describe(s) for s in (other, spec))
            raise SettingError(
                f"metrics {one} and {two} are both reported as {each.name}; set only one of them"
            )


def _describe(spec: Metric | Callable[..., Any]) -> str:
    if not isinstance(spec, Metric):
        return _place(spec)
    settings = ",".join(f"{name}={value}" for name, value in spec.settings.items())
    return repr(f"{spec.name}:{settings}" if settings else spec.name)


def find_metric(spec: MetricSpec) -> Metric:
    """Return the metric for a text such as `bleu:tokenize=zh`.

    A function, or the address of one, that was not decorated by `metric` is a metric of texts with
    higher values better.

    Raises:
        SettingError: if there is no such metric or setting.
    """
    if isinstance(spec, Metric):
        return spec
    if not isinstance(spec, str):
        return _wrap_function(spec, f"metric {getattr(spec, '__name__', spec)!r}")
    name, settings = parse_spec(spec, METRICS, _EXAMPLE)
    where = f"metric {spec!r}"
    if name in METRICS:
        return METRICS[name].with_settings(settings, where)
    if not is_address(name):
        raise make_unknown_error("unknown metric", name, METRICS, "my_metric")
    thing = import_object(name, "metric")
    found = thing if isinstance(thing, Metric) else _wrap_function(thing, where)
    return found.with_settings(settings, where)


def _wrap_function(thing: object, where: str) -> Metric:
    """Return a metric of texts with higher values better.

    Raises:
        SettingError: if the thing is not a function of outputs and references.
    """
    if not inspect.isfunction(thing):
        raise SettingError(f"{where}: it is not a function of outputs and references")
    try:
        inspect.signature(thing).bind_partial((), ())
    except TypeError:
        message = f"{where}: its arguments must be outputs and references, and settings by name"
        raise SettingError(message) from None
    try:
        return metric(percent=False)(thing)
    except ValueError as error:
        raise SettingError(f"{where}: {error}") from None
