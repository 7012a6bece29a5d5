"""`freerun diagnose`: whether a trained model suffers from its own mistakes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from freerun.cli.measuring import MeasureCommand, MeasureOptions, check_output, list_reading
from freerun.cli.options import UserSettings
from freerun.evaluation import Decoding
from freerun.evaluation.prefix_errors import ErrorCost
from freerun.report import require_plots
from freerun.study import diagnose
from freerun.training.processes import limit_threads


@dataclass(frozen=True)
class DiagnoseOptions(MeasureOptions):
    """The options of `freerun diagnose` itself.

    Args:
        cost: the cost that defines which next tokens are errors, `edit_distance` or `hamming`; by
            default the edit distance, or Hamming for outputs of fixed length. Of text that has no
            right continuation, own and real continuations are compared instead.
        oracle: the folder of a better model with the same tokens, to judge by instead of a cost
            (Arora et al. 2022).
        mauve: the folder of a causal model, whose features are used to compute MAUVE of own and
            real text, if neither a cost nor an oracle judges it.
        draws: the number of draws of the bootstrap that intervals come from.
        report: a file to write the report to, as a page of HTML with a plot.
        png: a file to draw the errors by position, or by length with an oracle, to.
    """

    cost: ErrorCost | None = None
    oracle: str | None = None
    mauve: str | None = None
    draws: int = 2_000
    report: str | None = None
    png: str | None = None


class DiagnoseCommand(MeasureCommand):
    """Measure how many errors of a trained model come from its own earlier ones."""

    own = DiagnoseOptions
    words: Sequence[str] = ()

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.words = words
        super().declare(words)

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(DiagnoseOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        for flag, path in (("json", own.json), ("report", own.report), ("png", own.png)):
            check_output(f"--{flag}", path)
        if own.report is not None or own.png is not None:
            require_plots()
        limit_threads()
        found = diagnose(
            own.checkpoint,
            own.data,
            split=own.split,
            language=own.language,
            pairs=list_reading(settings),
            cost=own.cost,
            oracle=own.oracle,
            mauve=own.mauve,
            decoding=decoding,
            batch_size=own.batch_size,
            draws=own.draws,
        )
        width = max(len(rate) for rate, _ in found.rates)
        rates = (f"{rate:<{width}}  {value}" for rate, value in found.rates)
        print(f"{found.subject}:", "", *found.words, "", *rates, sep="\n")
        figures = {"left_out": found.left_out, "oracle": own.oracle, **asdict(found.measurement)}
        own.write(found.measured, decoding, figures)
        if own.png is not None:
            found.draw(own.png)
        if own.report is not None:
            found.write_page(own.report, shlex.join(["freerun", "diagnose", *self.words]))
            print(f"\n{own.report}")
