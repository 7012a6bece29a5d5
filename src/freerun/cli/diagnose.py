"""`freerun diagnose`: whether a trained model suffers from its own mistakes."""

from __future__ import annotations

import json as json_module
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from freerun.cli.evaluate import CheckpointOptions, check_folder
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.evaluation import Decoding, check_decoding, measure_exposure_bias
from freerun.evaluation.exposure_bias import ErrorCost
from freerun.files import write
from freerun.report import require_plots
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.report.diagnosis_page import write_diagnosis_page
from freerun.settings import SettingError, to_dict
from freerun.training import load_policy
from freerun.training.checks import check_lengths
from freerun.training.processes import limit_threads
from freerun.training.record import find_versions
from freerun.training.tasks import Split, load_examples


@dataclass(frozen=True)
class DiagnoseOptions(CheckpointOptions):
    """The options of `freerun diagnose` itself.

    Args:
        split: the split of the task's data to measure on, `dev` or `test`; dev by default.
        data: a file in the format of the task to measure on as a whole; with --split, where the
            data of the task are now.
        cost: the cost that defines which next tokens are errors, `edit_distance` or `hamming`; by
            default the edit distance, or Hamming for outputs of fixed length.
        draws: the number of draws of the bootstrap that intervals come from.
        json: a file to write the figures to.
        report: a file to write the report to, as a page of HTML with a plot.
    """

    split: Split | None = None
    data: str | None = None
    cost: ErrorCost | None = None
    draws: int = 2_000
    json: str | None = None
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
        check_folder("--json", own.json)
        check_folder("--report", own.report)
        if own.report is not None:
            require_plots()
        limit_threads(None)
        policy, codec = load_policy(own.checkpoint)
        split = own.split if own.data is not None else own.split or "dev"
        task, examples, name = load_examples(own.checkpoint, codec, split, own.data)
        check_lengths(policy, examples, name)
        try:
            check_decoding(policy, examples, decoding)
            found = measure_exposure_bias(
                policy,
                examples,
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
        if own.json is not None:
            contents = {
                "task": task.name,
                "checkpoint": own.checkpoint,
                "examples_of": name,
                "decoding": to_dict(decoding),
                **asdict(found),
            }
            write(own.json, json_module.dumps(contents, indent=1, ensure_ascii=False) + "\n")
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
