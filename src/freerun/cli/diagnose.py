"""`freerun diagnose`: whether a trained model suffers from its own mistakes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

from freerun.cli.measuring import MeasureOptions, check_folder
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.evaluation import Decoding, measure_exposure_bias
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.files import write
from freerun.models.settings import build_from_record
from freerun.report import require_plots
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.report.diagnosis_page import errors_by_position, write_diagnosis_page
from freerun.settings import SettingError, format_value, list_settings, to_dict
from freerun.tasks import find_task
from freerun.training import TrainingSettings
from freerun.training.record import find_record, find_versions, has_record


@dataclass(frozen=True)
class DiagnoseOptions(MeasureOptions):
    """The options of `freerun diagnose` itself.

    Args:
        cost: the cost that defines which next tokens are errors, `edit_distance` or `hamming`; by
            default the edit distance, or Hamming for outputs of fixed length.
        draws: the number of draws of the bootstrap that intervals come from.
        report: a file to write the report to, as a page of HTML with a plot.
        png: a file to draw the errors by position to.
    """

    cost: ErrorCost | None = None
    draws: int = 2_000
    report: str | None = None
    png: str | None = None


class DiagnoseCommand(SettingsCommand):
    """Measure how many errors of a trained model come from its own earlier ones."""

    words: Sequence[str] = ()

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.words = words
        self.add(DiagnoseOptions, positional=["checkpoint"])
        self.add(Decoding, "Decoding")

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(DiagnoseOptions, "diagnose")
        decoding = settings.build(Decoding, "decoding")
        check_folder("--report", own.report)
        check_folder("--png", own.png)
        if own.report is not None or own.png is not None:
            require_plots()
        measured = own.load(decoding, "dev")
        task, name = measured.task, measured.name
        try:
            found = measure_exposure_bias(
                measured.policy,
                measured.examples,
                cost=own.cost,
                decoding=decoding,
                batch_size=own.batch_size,
                seed=decoding.seed,
                draws=own.draws,
            )
        except ValueError as error:
            raise SettingError(f"diagnose: {error}") from None
        what = f"{task.name}, {name}, {found.sentences:,} examples, {decoding.how}"
        print(f"{what}:\n")
        print(*describe_exposure_bias(found, suggest_comparison(own.checkpoint)), sep="\n")
        rates = list_rates(found)
        width = max(len(rate) for rate, _ in rates)
        print(*["", *(f"{rate:<{width}}  {value}" for rate, value in rates)], sep="\n")
        own.write(measured, decoding, asdict(found))
        if own.png is not None:
            drawn = BytesIO()
            errors_by_position(found).savefig(drawn, dpi=150, format="png")
            write(own.png, drawn.getvalue())
        if own.report is not None:
            page = write_diagnosis_page(
                found,
                title=f"{own.checkpoint}: does it suffer from its own mistakes?",
                subtitle=what,
                details={
                    "Task": {"name": task.name, **to_dict(task)},
                    "Measurement": {**to_dict(own), **to_dict(decoding)},
                    "Versions": find_versions(),
                },
                command=shlex.join(["freerun", "diagnose", *self.words]),
            )
            write(own.report, page)
            print(f"\n{own.report}")


_WITHOUT_PREFIX = ("data", "metrics", "budget")
"""Settings of task and training that are options of `freerun compare` itself."""


def suggest_comparison(checkpoint: str) -> str | None:
    """Return the command that compares MLE with scheduled sampling for the model in a folder.

    It has the settings of the run that differ from the recipe of the task.

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
    flags: list[str] = []

    def add(prefix: str, found: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        for name, value in found.items():
            if name in usual and format_value(value) != format_value(usual[name]):
                flag = name if name in _WITHOUT_PREFIX else f"{prefix}.{name}"
                flags.extend((f"--{flag}", format_value(value)))

    defaults = {name: each.default for name, each in list_settings(task).items()}
    add("task", record.task["settings"], defaults)
    pretrained = kind == "pretrained"
    if kind != "recurrent":
        flags += ["--model", record.model["path"] if pretrained else kind]
    recipe = task.recipe.get("model", {}) if kind == "recurrent" else {}
    path_of = {"path": record.model["path"]} if pretrained else {}
    model = build_from_record({"kind": kind, **recipe, **path_of})
    add("model", record.model, model.record())
    training = TrainingSettings(**{**task.recipe.get("training", {}), **model.training})
    add("training", record.training, {k: v for k, v in to_dict(training).items() if k != "seed"})
    output = path.parent.with_name(f"{path.parent.name}-compared")
    methods = ["--methods", "mle", "scheduled_sampling", "--output", str(output)]
    return shlex.join(["freerun", "compare", record.task["name"], *flags, *methods])
