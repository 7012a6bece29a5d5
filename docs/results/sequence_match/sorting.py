"""Write the rows of docs/results/sequence_match.md: digits, and the same digits sorted.

Run `python docs/results/sequence_match/sorting.py FOLDER`. It writes train.tsv, dev.tsv and
test.tsv; no source is in two of them. The rows are always the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

SIZES = {"train": 5_000, "dev": 500, "test": 1_000}
LENGTH = 16


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    random = Random(0)  # noqa: S311
    seen: set[str] = set()
    for name, size in SIZES.items():
        lines = []
        while len(lines) < size:
            source = "".join(random.choices("0123456789", k=LENGTH))
            if source not in seen:
                seen.add(source)
                lines.append(f"{source}\t{''.join(sorted(source))}\n")
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
