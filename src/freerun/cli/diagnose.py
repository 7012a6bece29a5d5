"""`freerun diagnose`: whether a trained model suffers from its own mistakes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from freerun.cli.measuring import MeasureOptions, check_folder
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.evaluation import Decoding, measure_exposure_bias
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.files import write
from freerun.report import require_plots
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.report.diagnosis_page import write_diagnosis_page
from freerun.settings import SettingError, to_dict
from freerun.training.record import find_versions


@dataclass(frozen=True)
class DiagnoseOptions(MeasureOptions):
    """The options of `freerun diagnose` itself.

    Args:
        cost: the cost that defines which next tokens are errors, `edit_distance` or `hamming`; by
            default the edit distance, or Hamming for outputs of fixed length.
        draws: the number of draws of the bootstrap that intervals come from.
        report: a file to write the report to, as a page of HTML with a plot.
    """

    cost: ErrorCost | None = None
    draws: int = 2_000
    report: str | None = None


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
        if own.report is not None:
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
        print(*describe_exposure_bias(found), sep="\n")
        rates = list_rates(found)
        width = max(len(rate) for rate, _ in rates)
        print(*["", *(f"{rate:<{width}}  {value}" for rate, value in rates)], sep="\n")
        own.write(measured, decoding, asdict(found))
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
