"""`freerun evaluate` and `freerun predict`: the outputs of a trained model and their metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, isnan

from freerun.cli.measuring import CheckpointOptions, MeasureOptions, check_folder
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.data.files import Line, decode_lines, stream_lines
from freerun.errors import DataError
from freerun.evaluation import (
    Decoding,
    decode,
    evaluate,
    on_device,
    teacher_forced_loss,
)
from freerun.metrics import check_metrics, list_signatures
from freerun.report.labels import backspace_lines, metric_lines
from freerun.report.live import NOTATION, Traces
from freerun.settings import to_dict
from freerun.tasks import note_unseen
from freerun.training import load_policy
from freerun.training.checks import check_model_decoding
from freerun.training.processes import limit_threads
from freerun.training.tasks import load_measured, stream_sources


@dataclass(frozen=True)
class EvaluateOptions(MeasureOptions):
    """The options of `freerun evaluate` itself.

    Args:
        metrics: what else to report: metrics that `freerun metrics` lists, or your own as
            file.py:function or package.module:function.
    """

    metrics: tuple[str, ...] = ()


class EvaluateCommand(SettingsCommand):
    """Measure how good the outputs of a trained model are when it runs freely."""

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(EvaluateOptions, positional=["checkpoint"])
        self.add(Decoding, "Decoding")

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(EvaluateOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        check_folder("--json", own.json)
        limit_threads(None)
        measured = load_measured(own.checkpoint, own.split, own.data)
        policy, codec, examples = measured.policy, measured.codec, measured.examples
        check_model_decoding(policy, examples, decoding)
        extra = (*measured.task.extra_metrics, *own.metrics)
        task, name = replace(measured.task, extra_metrics=extra), measured.name
        check_metrics(task.get_metrics(), codec)
        size = own.batch_size
        found = evaluate(policy, task, codec, examples, decoding=decoding, batch_size=size)
        loss = teacher_forced_loss(policy, examples, batch_size=size)
        signed = list_signatures(task.get_metrics(), codec, examples)
        print(f"{task.name}, {name}, {len(examples):,} examples, free-running, {decoding.how}:")
        print(metric_lines(found.metrics))
        print(*(f"note: {note}\n" for note in note_unseen(examples, name)), sep="", end="")
        if found.backspaces is not None:
            print(*backspace_lines(found.backspaces), sep="\n")
        if signed:
            print(*signed.values(), sep="\n")
        known = not isnan(loss)
        forced = f"log loss {loss:.4f} per token, perplexity {exp(loss):.2f}"
        forced = forced if known else "training has none of the target tokens"
        print(f"teacher-forced, which is not how it runs: {forced}")
        figures = {
            "metrics": found.metrics,
            "backspaces": to_dict(found.backspaces) or None,
            "signatures": signed,
            "teacher_forced_loss": loss if known else None,
            "teacher_forced_perplexity": exp(loss) if known else None,
            "error_by_position": found.error_by_position,
            "count_by_position": found.count_by_position,
        }
        own.write(measured, decoding, figures)


@dataclass(frozen=True)
class PredictOptions(CheckpointOptions):
    """The options of `freerun predict` itself.

    Args:
        file: the sources, in the format of the task of the model; standard input by default.
        show_backspaces: show all that a model with a backspace wrote, with what it withdrew: in
            colors and live on a terminal, else as described below.
    """

    file: str | None = None
    show_backspaces: bool = False


class PredictCommand(SettingsCommand):
    """Read sources from a file or from standard input, and print the outputs of a trained model."""

    notes = NOTATION

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(PredictOptions, positional=["checkpoint", "file"])
        self.add(Decoding, "Decoding")

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(PredictOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        limit_threads(None)
        policy, codec = load_policy(own.checkpoint)
        traces = Traces(policy, codec, decoding) if own.show_backspaces else None
        size = own.batch_size if traces is None else traces.batch_size(own.batch_size)
        lines, name = _open_lines(own.file)
        for first, sources in stream_sources(own.checkpoint, policy, codec, lines, name, size):
            if not first:
                check_model_decoding(policy, sources, decoding)
            for start in range(0, len(sources), size):
                batch = sources.batch(range(start, min(start + size, len(sources))))
                # Random numbers depend on the number of an example in the whole file.
                batch = on_device(replace(batch, ids=batch.ids + first), policy)
                if traces is not None:
                    traces.show(batch)
                else:
                    found = decode(policy, batch.source, decoding, ids=batch.ids)
                    for number, row in enumerate(found.lists(policy.vocabulary.eos), start):
                        print(codec.write(row, sources.lines[number]))
                sys.stdout.flush()


def _open_lines(file: str | None) -> tuple[Iterator[Line], str]:
    """Return the numbered lines of a file, or of standard input, as they are read, and its name."""
    if file not in (None, "-"):
        return stream_lines(str(file)), str(file)
    if sys.stdin is None:
        raise DataError("standard input is closed")
    return decode_lines(sys.stdin.buffer, "standard input"), "standard input"
