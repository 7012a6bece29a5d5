"""`freerun diagnose`: whether a trained model suffers from its own mistakes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from freerun.cli.measuring import MeasureOptions, check_folder
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.evaluation import (
    Decoding,
    compare_continuations,
    measure_accumulated_errors,
    measure_exposure_bias,
)
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.files import write
from freerun.models.settings import build_from_record
from freerun.report import require_plots
from freerun.report.diagnosis_page import Diagnosis, present, write_diagnosis_page
from freerun.report.plots import save_png
from freerun.settings import SettingError, format_value, list_settings, to_dict
from freerun.tasks import Continuation, find_task
from freerun.training import TrainingSettings
from freerun.training.record import find_record, find_versions, has_record
from freerun.training.tasks import Measured, load_oracle


@dataclass(frozen=True)
class DiagnoseOptions(MeasureOptions):
    """The options of `freerun diagnose` itself.

    Args:
        cost: the cost that defines which next tokens are errors, `edit_distance` or `hamming`; by
            default the edit distance, or Hamming for outputs of fixed length. Of text that has no
            right continuation, own and real continuations are compared instead.
        oracle: the folder of a better model with the same tokens, to judge by instead of a cost
            (Arora et al. 2022).
        draws: the number of draws of the bootstrap that intervals come from.
        report: a file to write the report to, as a page of HTML with a plot.
        png: a file to draw the errors by position, or by length with an oracle, to.
    """

    cost: ErrorCost | None = None
    oracle: str | None = None
    draws: int = 2_000
    report: str | None = None
    png: str | None = None

    def __post_init__(self) -> None:
        """Check that options do not exclude each other."""
        super().__post_init__()
        if self.oracle is not None and self.cost is not None:
            raise ValueError("cost and oracle exclude each other; an oracle judges without a cost")

    def measure(self, measured: Measured, decoding: Decoding) -> Diagnosis:
        """Measure the errors of a model, by an oracle if there is one, or how its text differs.

        Raises:
            CheckpointError: if the oracle cannot be used.
            DataError: if the oracle is too small for the examples.
            SettingError: if settings do not apply.
        """
        oracle = None if self.oracle is None else load_oracle(self.oracle, measured)
        how: dict[str, Any] = {
            "decoding": decoding,
            "batch_size": self.batch_size,
            "seed": decoding.seed,
            "draws": self.draws,
        }
        pair = measured.policy, measured.examples
        try:
            if oracle is None and self.cost is None and isinstance(measured.task, Continuation):
                return compare_continuations(*pair, **how)
            if oracle is None:
                return measure_exposure_bias(*pair, cost=self.cost, **how)
            return measure_accumulated_errors(pair[0], oracle, pair[1], **how)
        except ValueError as error:
            raise SettingError(str(error)) from None


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
        own = settings.build(DiagnoseOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        check_folder("--report", own.report)
        check_folder("--png", own.png)
        if own.report is not None or own.png is not None:
            require_plots()
        measured = own.load(decoding, "dev")
        task, name = measured.task, measured.name
        found = own.measure(measured, decoding)
        what = f"{task.name}, {name}, {found.sentences:,} examples, {decoding.how}"
        print(f"{what}:\n")
        shown = present(found, suggest_comparison(own.checkpoint))
        width = max(len(rate) for rate, _ in shown.rates)
        rates = (f"{rate:<{width}}  {value}" for rate, value in shown.rates)
        print(*shown.answer, "", *rates, sep="\n")
        own.write(measured, decoding, {"oracle": own.oracle, **asdict(found)})
        if own.png is not None:
            save_png(shown.plot, own.png)
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
