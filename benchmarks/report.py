"""Write the figures of benchmarks into the documentation.

Run `python benchmarks/report.py` after a benchmark has written its JSON into docs/results/speed. A
comment above a table names the file, and how names of figures are made of the key of a row, in the
column `key` or the first one, and the heading of a column, by default `{key}_{column}`:

    <!-- figures: baselines.json, {column}_{key} -->

Numbers of the table are replaced by those of the file, with as many digits as they have; those from
1,000 are rounded to three digits. `?` stands for a number that has not been measured. All else on
the page stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = (DOCS / "results" / "speed.md", DOCS / "several_gpus.md")
FIGURES = DOCS / "results" / "speed"
TABLE = re.compile(
    r"^<!-- figures: (?P<file>\S+?)(?:, (?P<keys>\S+))? -->\n\n?(?P<rows>(?:^\|.*\|\n)+)", re.M
)
NUMBER = re.compile(r"-?[\d,]+(?P<decimals>\.\d+)?(?P<percent> %)?|\?")
GROWTH = ("length", "batch", "words", "width", "cells", "tokens")
COLUMNS = {
    "GPT-2": "gpt2",
    "Llama": "llama",
    "T5": "t5",
    "BART": "bart",
    "OCR size": "ocr",
    "spelling size": "spelling",
    "measured": "",
    "time": "seconds_vs_mle",
    "memory": "mb_vs_mle",
    **{name: f"{name}/seconds_slope" for name in GROWTH},
    **{f"{name}, memory": f"{name}/mb_slope" for name in GROWTH},
}
"""Headings that are not part of keys as they are."""
NOT_MEASURED = ("target",)


def format_like(value: float, cell: str) -> str:
    """Return a number with as many decimals as that in a cell; `?` stands for two."""
    match = NUMBER.fullmatch(cell)
    decimals = len((match and match["decimals"]) or ".") - 1 if cell != "?" else 2
    if match and match["percent"]:
        return f"{100 * value:.{decimals}f} %"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.{decimals}f}"


def fill(rows: str, figures: Mapping[str, float | str], keys: str) -> str:
    """Return the rows of a table with the figures.

    Raises:
        KeyError: if a row or column with a number has no figure.
    """
    lines = [line.strip().strip("|").split("|") for line in rows.strip().split("\n")]
    headings = [cell.strip() for cell in lines[0]]
    place_of_key = headings.index("key") if "key" in headings else 0
    for cells in lines[2:]:
        key = cells[place_of_key].strip().strip("`")
        for place, cell in enumerate(cells):
            text, heading = cell.strip(), headings[place]
            if not NUMBER.fullmatch(text) or heading in NOT_MEASURED:
                continue
            column = COLUMNS.get(heading, heading)
            name = keys.format(key=key, column=column) if column else key
            cells[place] = f" {format_like(float(figures[name]), text)} "
    return "".join(f"|{'|'.join(cells)}|\n" for cells in lines)


def write(page: str, folder: Path) -> str:
    """Return a page with the figures of the files in a folder."""

    def replace(match: re.Match[str]) -> str:
        path = folder / match["file"]
        if not path.exists() and "?" in match["rows"]:
            return match[0]
        figures = json.loads(path.read_text())
        start, _, _ = match[0].partition("|")
        return start + fill(match["rows"], figures, match["keys"] or "{key}_{column}")

    return TABLE.sub(replace, page)


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        page.write_text(write(page.read_text("utf-8"), FIGURES), encoding="utf-8")


if __name__ == "__main__":
    main()
