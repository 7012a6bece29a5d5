"""`freerun report`: the report or the table of a finished comparison, without training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freerun.cli.measuring import check_output
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.files import write
from freerun.report.export import export_table
from freerun.study.reading import read_results, write_report


@dataclass(frozen=True)
class ReportOptions:
    """The options of `freerun report` itself.

    Args:
        comparison: the folder of a finished comparison, or its results.json.
        format: what to write: the report as a page of HTML, or its table as `markdown`, `latex` or
            `csv`.
        output: the file to write; by default, the page is report.html in the folder, and a table is
            printed.
    """

    comparison: str
    format: Literal["html", "markdown", "latex", "csv"] = "html"
    output: Path | None = None


class ReportCommand(SettingsCommand):
    """Write the report of a finished comparison anew, or its table in another format."""

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(ReportOptions, positional=["comparison"])

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(ReportOptions, "report")
        check_output("--output", None if own.output is None else str(own.output))
        results = read_results(own.comparison)
        if own.format == "html":
            there = Path(own.comparison)
            print(write_report(results, there.parent if there.is_file() else there, own.output))
            return
        table = export_table(results, own.format)
        if own.output is None:
            sys.stdout.write(table)
        else:
            write(own.output, table)
            print(own.output)
