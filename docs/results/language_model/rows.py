"""Write the rows of docs/results/language_model.md: dates and measures, and sentences with both.

Run `python docs/results/language_model/rows.py FOLDER`. It writes train.jsonl, dev.jsonl and
test.jsonl; no prompt is in two of them. The rows are always the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random

SIZES = {"train": 400, "dev": 16, "test": 128}
UNITS = {
    "km": "kilometers",
    "m": "meters",
    "mm": "millimeters",
    "kg": "kilograms",
    "g": "grams",
    "t": "tons",
    "l": "liters",
    "ml": "milliliters",
    "h": "hours",
    "s": "seconds",
}
ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = [
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
SMALL = [*ONES, *TEENS]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
IRREGULAR = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
FIRST_DAY, DAYS = date(1900, 1, 1), 55_000


def spell(number: int) -> str:
    """Return a number below 100 in words."""
    if number < len(SMALL):
        return SMALL[number]
    tens, ones = TENS[number // 10 - 2], number % 10
    return f"{tens}-{SMALL[ones]}" if ones else tens


def spell_ordinal(number: int) -> str:
    """Return the ordinal of a number below 40 in words."""
    head, dash, last = spell(number).rpartition("-")
    return head + dash + IRREGULAR.get(last, f"{last}th")


def draw_rows(seed: int = 0) -> Iterator[dict[str, str]]:
    """Yield rows with different prompts."""
    random = Random(seed)  # noqa: S311
    seen: set[str] = set()
    while True:
        day = FIRST_DAY + timedelta(random.randrange(DAYS))
        whole, tenth = random.randrange(2, 100), random.randrange(1, 10)
        unit = random.choice(sorted(UNITS))
        prompt = f"{day.isoformat()}, {whole}.{tenth} {unit} ="
        if prompt not in seen:
            seen.add(prompt)
            when = f"On the {spell_ordinal(day.day)} of {day:%B} {day.year}"
            amount = f"{spell(whole)} point {spell(tenth)} {UNITS[unit]}"
            yield {"prompt": prompt, "completion": f" {when}, it was {amount}."}


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = draw_rows()
    for name, size in SIZES.items():
        lines = [json.dumps(next(rows)) + "\n" for _ in range(size)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
