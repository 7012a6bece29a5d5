"""`freerun evaluate`: the metrics of the outputs of a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, isnan
from typing import Any

from freerun.cli.measuring import MeasureCommand, MeasureOptions, check_output, list_reading
from freerun.cli.options import UserSettings
from freerun.evaluation import (
    Decoding,
    evaluate,
    measure_by_length,
    teacher_forced_loss,
)
from freerun.metrics import check_metrics, find_metric, find_metrics, list_signatures
from freerun.report.labels import backspace_lines, label, metric_lines, scale, unit
from freerun.settings import to_dict
from freerun.tasks import note_unseen
from freerun.training.checks import check_model_decoding
from freerun.training.processes import limit_threads
from freerun.training.tasks import load_measured


@dataclass(frozen=True)
class EvaluateOptions(MeasureOptions):
    """The options of `freerun evaluate` itself.

    Args:
        metrics: what else to report: metrics that `freerun metrics` lists, or your own as
            file.py:function or package.module:function.
        by_length: whether to report the metrics by the length of references, too.
    """

    metrics: tuple[str, ...] = ()
    by_length: bool = False


class EvaluateCommand(MeasureCommand):
    """Measure how good the outputs of a trained model are when it runs freely."""

    own = EvaluateOptions

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(EvaluateOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        check_output("--json", own.json)
        limit_threads()
        reading = list_reading(settings)
        measured = load_measured(own.checkpoint, own.split, own.data, own.language, reading)
        policy, codec, examples = measured.policy, measured.codec, measured.examples
        check_model_decoding(policy, examples, decoding)
        given = find_metrics(own.metrics)
        kept = [m for m in measured.task.extra_metrics if find_metric(m).name not in given]
        extra = (*kept, *own.metrics)
        task, name = replace(measured.task, extra_metrics=extra), measured.name
        check_metrics(task.get_metrics(), codec)
        size = own.batch_size
        found = evaluate(policy, task, codec, examples, decoding=decoding, batch_size=size)
        loss = teacher_forced_loss(policy, examples, batch_size=size)
        signed = list_signatures(task.get_metrics(), codec, examples)
        grouped = measure_by_length(found.statistics, [*map(len, found.references)])
        known = not isnan(loss)
        forced = f"log loss {loss:.4f} per token, perplexity {exp(loss):.2f}"
        forced = forced if known else "training has none of the target tokens"
        print(
            f"{task.name}, {name}, {len(examples):,} examples, free-running, {decoding.how}:",
            metric_lines(found.metrics),
            *(f"note: {note}" for note in note_unseen(examples, name)),
            *(_describe_lengths(grouped) if own.by_length else ()),
            *(() if found.backspaces is None else backspace_lines(found.backspaces)),
            *signed.values(),
            f"teacher-forced, which is not how it runs: {forced}",
            sep="\n",
        )
        figures = {
            "metrics": found.metrics,
            "backspaces": to_dict(found.backspaces) or None,
            "signatures": signed,
            "teacher_forced_loss": loss if known else None,
            "teacher_forced_perplexity": exp(loss) if known else None,
            "error_by_position": found.error_by_position,
            "count_by_position": found.count_by_position,
            "by_length": grouped,
        }
        own.write(measured, decoding, figures)


def _describe_lengths(grouped: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for every group of lengths (see `measure_by_length`)."""
    for group in grouped:
        shortest, longest, count = group["shortest"], group["longest"], group["count"]
        lengths = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        figures = ", ".join(
            f"{label(name)} {value * scale(name):.2f} {unit(name)}".rstrip()
            for name, value in group["metrics"].items()
        )
        yield f"  references of {lengths} tokens ({count}): {figures}"
