"""Diagnose a trained model: measure how many of its errors come from its own earlier ones."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from freerun.data import DataError
from freerun.data.store import StoredExamples
from freerun.evaluation import (
    GREEDY,
    Decoding,
    compare_continuations,
    decode_examples,
    measure_accumulated_errors,
    measure_exposure_bias,
)
from freerun.evaluation.continuations import MauveFunction, Rows
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.files import write
from freerun.metrics import METRICS, check_metrics
from freerun.models.settings import build_from_record
from freerun.report.diagnosis_page import Measurement, Presentation, present, write_diagnosis_page
from freerun.report.examples import choose_examples
from freerun.report.plots import save_png
from freerun.settings import SettingError, format_value, list_settings, to_dict
from freerun.study.outputs import list_outputs
from freerun.tasks import Continuation, find_task
from freerun.training import TrainingSettings
from freerun.training.checks import check_model_decoding
from freerun.training.record import find_record, find_versions, has_record
from freerun.training.tasks import Measured, Split, load_measured, load_oracle


@dataclass(frozen=True)
class Diagnosis:
    """What was measured of a model.

    Attributes:
        checkpoint: the folder of the model.
        measured: the model, and the examples it was measured on.
        measurement: the figures.
        decoding: how the model was decoded.
        settings: what else determines the figures.
        suggestion: the command that compares methods for this model; None if freerun did not train
            it, or not by MLE.
        left_out: the number of examples that are not among those measured, as their targets have
            symbols that the model cannot write.
    """

    checkpoint: str
    measured: Measured = field(repr=False)
    measurement: Measurement
    decoding: Decoding
    settings: Mapping[str, Any]
    suggestion: str | None
    left_out: int = 0

    @property
    def words(self) -> list[str]:
        """What the errors of the model come from, and what can be gained; one line per statement.

        The suggested command is among them if a method may help.
        """
        return self.presentation.answer

    @property
    def rates(self) -> list[tuple[str, str]]:
        """The name of every figure, and its value with its interval."""
        return self.presentation.rates

    @cached_property
    def presentation(self) -> Presentation:
        """What there is to show."""
        return present(self.measurement, self.suggestion)

    @cached_property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs, as `freerun.study.read_outputs` returns them; decoded when first used."""
        each, size = self.measured, self.settings["batch_size"]
        written = decode_examples(
            each.policy, each.examples, decoding=self.decoding, batch_size=size
        )
        return list(list_outputs(each.codec, each.examples, written))

    @property
    def subject(self) -> str:
        """The task, the examples and the decoding, in a line."""
        task, name = self.measured.task.name, self.measured.name
        count = f"{self.measurement.sentences:,} examples"
        if self.left_out:
            count += f" ({self.left_out:,} more have symbols that the model cannot write)"
        return f"{task}, {name}, {count}, {self.decoding.how}"

    def draw(self, path: str | Path) -> None:
        """Draw the errors by position, or what else was measured by length, as PNG.

        Raises:
            MissingExtraError: if matplotlib is missing.
            WriteError: if the file cannot be written.
        """
        save_png(self.presentation.plot, path)

    def write_page(self, path: str | Path, command: str | None = None) -> None:
        """Write the report as a page of HTML that needs no network.

        Args:
            path: the file.
            command: the command line to show in it.

        Raises:
            MissingExtraError: if matplotlib is missing.
            WriteError: if the file cannot be written.
        """
        task = self.measured.task
        how = {"checkpoint": self.checkpoint, **self.settings, **to_dict(self.decoding)}
        page = write_diagnosis_page(
            self.presentation,
            title=f"{self.checkpoint}: {self.presentation.question}",
            subtitle=self.subject,
            groups=choose_examples({"output": self.outputs}, next(iter(task.get_metrics()))),
            details={
                "Task": {"name": task.name, **to_dict(task)},
                "Measurement": how,
                "Versions": find_versions(),
            },
            command=command,
        )
        write(path, page)


def diagnose(
    checkpoint: str | Path,
    data: str | Path | None = None,
    *,
    split: Split | None = None,
    language: str | None = None,
    pairs: Mapping[str, Any] | None = None,
    cost: ErrorCost | None = None,
    oracle: str | Path | None = None,
    mauve: str | None = None,
    decoding: Decoding = GREEDY,
    batch_size: int = 256,
    draws: int = 2_000,
) -> Diagnosis:
    """Measure how many errors of a trained model come from its own earlier ones.

    Nothing is trained. With an oracle, its divergence from the model is measured instead of errors
    (see `measure_accumulated_errors`); of text that has no right continuation, own and real
    continuations are compared (see `compare_continuations`).

    Args:
        checkpoint: the folder of a model that freerun trained; with `data`, of any Hugging Face
            model.
        data: a file in the format of the task to measure on as a whole; with `split`, where the
            data of the task are now. For a model that freerun did not train, a file of rows in the
            format of the task pairs, or of text.
        split: the split of the task's data to measure on; by default dev, without `data`.
        language: the language of sounds, for a multilingual Whisper that freerun did not train.
        pairs: settings of `freerun.tasks.Pairs` such as `source_columns` and `target_column`, which
            say how to read rows for a model of text that freerun did not train.
        cost: the cost that defines which next tokens are errors; by default the edit distance, or
            Hamming for outputs of fixed length.
        oracle: the folder of a better model with the same tokens, to judge by instead of a cost.
        mauve: the folder of a causal model, or its id on the Hugging Face hub, whose features are
            used to compute MAUVE of own and real continuations.
        decoding: how the model writes its own prefixes.
        batch_size: the number of examples that are decoded together.
        draws: the number of draws of the bootstrap that intervals come from.

    Raises:
        CheckpointError: if the model or the oracle cannot be used.
        DataError: if the data cannot be used, or all targets have symbols that the model cannot
            write.
        SettingError: if settings do not apply.
    """
    if oracle is not None and cost is not None:
        raise SettingError("cost and oracle exclude each other; an oracle judges without a cost")
    if batch_size < 1:
        raise SettingError(f"batch_size is {batch_size}; it must be at least 1")
    folder = str(checkpoint)
    file, judge = (None if each is None else str(each) for each in (data, oracle))
    part = split if file is not None else split or "dev"
    measured = load_measured(folder, part, file, language, pairs)
    total = len(measured.examples)
    if judge is None and not _is_text(measured, cost):
        measured = leave_out_unwritable(measured)
    check_model_decoding(measured.policy, measured.examples, decoding)
    how = {"decoding": decoding, "batch_size": batch_size, "seed": decoding.seed, "draws": draws}
    measurement = _measure(measured, cost, judge, mauve, how)
    settings = {
        "data": file,
        "split": split,
        **{f"task.{name}": value for name, value in (pairs or {}).items()},
        "cost": cost,
        "oracle": judge,
        "mauve": mauve,
        "batch_size": batch_size,
        "draws": draws,
    }
    suggestion = suggest_comparison(folder)
    left_out = total - len(measured.examples)
    return Diagnosis(folder, measured, measurement, decoding, settings, suggestion, left_out)


def leave_out_unwritable(measured: Measured) -> Measured:
    """Leave out the examples whose targets have symbols that the model cannot write.

    After any prefix, the model is wrong at such a symbol, so nothing can be said about its errors
    there.

    Raises:
        DataError: if no example remains.
    """
    words, examples = measured.policy.vocabulary, measured.examples
    kept = [
        number
        for number, row in enumerate(examples.references)
        if max(row, default=0) < words.actions and words.unknown not in row
    ]
    if len(kept) == len(examples) or not isinstance(examples, StoredExamples):
        return measured
    if not kept:
        raise DataError(
            f"{measured.name}: every target has symbols that the model cannot write, so its errors "
            "cannot be traced to earlier ones"
        )
    return replace(measured, examples=examples.select(kept))


def _is_text(measured: Measured, cost: ErrorCost | None) -> bool:
    """Return whether outputs are running text, which has no right continuation."""
    return cost is None and isinstance(measured.task, Continuation)


def _measure(
    measured: Measured,
    cost: ErrorCost | None,
    oracle: str | None,
    mauve: str | None,
    how: Mapping[str, Any],
) -> Measurement:
    """Measure errors by a cost, or by an oracle if there is one, or how text differs."""
    as_text = oracle is None and _is_text(measured, cost)
    if mauve is not None and not as_text:
        raise SettingError("mauve does not apply: it is for text without a cost or an oracle")
    distance = None if mauve is None else make_mauve(measured, mauve)
    judge = None if oracle is None else load_oracle(oracle, measured)
    pair = measured.policy, measured.examples
    try:
        if judge is not None:
            return measure_accumulated_errors(pair[0], judge, pair[1], **how)
        if as_text:
            return compare_continuations(*pair, **how, mauve=distance)
        return measure_exposure_bias(*pair, cost=cost, **how)
    except ValueError as error:
        raise SettingError(str(error)) from None


def make_mauve(measured: Measured, model: str) -> MauveFunction:
    """Return a function that computes MAUVE of continuations with their prompts.

    Raises:
        SettingError: if outputs do not continue their prompts.
        DataError: if there is no such model.
        MissingExtraError: if mauve-text is not installed.
    """
    metric = METRICS["mauve"].with_settings({"model": model}, "mauve")
    check_metrics({metric.name: metric}, measured.codec)

    def compute(numbers: Sequence[int], own: Rows, real: Rows) -> float:
        source = measured.examples.batch(numbers).source
        prompts = [row[mask].tolist() for row, mask in zip(source.values, source.mask, strict=True)]
        passages = [
            [measured.codec.decode([*each, *row]) for each, row in zip(prompts, rows, strict=True)]
            for rows in (own, real)
        ]
        return metric(*passages)

    return compute


FOR_BLEU = [
    "ocd",
    "searnn:roll_in=reference,alpha=200,token_choice=neighbors,tokens=12,neighbors=6,cells=6,"
    "warm_up=0.2",
]
"""What gained on translation by recurrent models, where scheduled sampling did not
(docs/results/baselines.md)."""

_WITHOUT_PREFIX = ("data", "metrics", "headline", "budget")
"""Settings of task and training that are options of `freerun compare` itself."""


def suggest_comparison(checkpoint: str) -> str | None:
    """Return the command that compares MLE with what to try first for the model in a folder.

    It has the settings of the run that differ from the recipe of the task. Recurrent models that
    are judged by BLEU are not trained anew: the methods continue from the model, with a tenth of
    the updates or seconds, and a fifth of the learning rate.

    Args:
        checkpoint: the folder.

    Returns:
        The command; None if freerun did not train the model, or not by MLE.
    """
    if not has_record(checkpoint):
        return None
    path, record = find_record(checkpoint)
    if [entry["method"] for entry in record.methods.values()] != ["mle"]:
        return None
    task = find_task(record.task["name"])
    kind = record.model["kind"]
    defaults = {name: each.default for name, each in list_settings(task).items()}
    flags = list_changes("task", record.task["settings"], defaults)
    own, methods = dict(record.training), ["scheduled_sampling"]
    if kind == "recurrent" and task.cost == "bleu":
        folder = str(path.parent)
        flags += ["--model", folder]
        model = build_from_record({"kind": "pretrained", "path": folder})
        own, methods = _shorten(own), FOR_BLEU
    else:
        recipe = task.recipe.get("model", {}) if kind == "recurrent" else {}
        path_of = {"path": record.model["path"]} if kind == "pretrained" else {}
        model = build_from_record({"kind": kind, **recipe, **path_of})
        if kind != "recurrent":
            flags += ["--model", path_of.get("path", kind)]
        flags += list_changes("model", record.model, model.record())
    training = TrainingSettings(**{**task.recipe.get("training", {}), **model.training})
    training, _ = training.complete(record.examples.get("train"), model)
    usual = {name: value for name, value in to_dict(training).items() if name != "seed"}
    flags += list_changes("training", own, usual)
    output = path.parent.with_name(f"{path.parent.name}-compared")
    flags += ["--methods", "mle", *methods, "--output", str(output)]
    return shlex.join(["freerun", "compare", record.task["name"], *flags])


def _shorten(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings to continue a run with, instead of training anew."""
    found = dict(training)
    found["learning_rate"] = float(f"{found['learning_rate'] / 5:.3g}")
    if found["warmup"] >= 1:  # otherwise it is a fraction of the run
        found["warmup"] //= 10
    found["evaluate_every"] = -(-found["evaluate_every"] // 10)
    if found["budget"] is None:
        found["updates"] = -(-found["updates"] // 10)
    else:
        del found["updates"]
        found["budget"] /= 10
    return found


def list_changes(prefix: str, found: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """Return the options for the settings that differ from the usual ones."""
    flags: list[str] = []
    for name, value in found.items():
        if name in usual and format_value(value) != format_value(usual[name]):
            flag = name if name in _WITHOUT_PREFIX else f"{prefix}.{name}"
            # The flags of tuples take several words.
            several = isinstance(usual[name], tuple) and value
            flags += [f"--{flag}", *map(format_value, value if several else [value])]
    return flags
