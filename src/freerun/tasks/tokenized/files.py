"""Files of rows, read by the `datasets` library."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from freerun.tasks.base import DataError
from freerun.tasks.extras import extra
from freerun.tasks.files import read_lines
from freerun.tasks.hub import is_dataset, load_splits

FORMATS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def read_splits(data: str, subset: str | None = None) -> dict[str, Any]:
    """The splits of a file, which is all train, or of a dataset.

    Args:
        data: a file (.jsonl, .json, .csv, .tsv, .parquet; also .gz behind it), a folder, or an id
            on the Hugging Face hub.
        subset: the part of a dataset.

    Raises:
        DataError: where it cannot be read.
        MissingExtraError: where `datasets` is not installed.
    """
    if is_dataset(data):
        return load_splits(data, subset)
    if subset is not None:
        raise DataError(f"{data}: it is a file, and has no subset {subset!r}")
    return {"train": read_rows(data)}


def read_rows(path: str) -> Any:
    """The rows of a file, a Dataset of the `datasets` library.

    Raises:
        DataError: where there is no such file, its name ends in none of `FORMATS`, or it cannot be
            read.
        MissingExtraError: where `datasets` is not installed.
    """
    name = path.removesuffix(".gz")
    kind = FORMATS.get(Path(name).suffix)
    if kind is None:
        raise DataError(f"{path}: files of rows end in {', '.join(FORMATS)}, or .gz behind it")
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    library = extra("datasets", "datasets", f"reading {path}")
    settings: dict[str, Any] = {}
    if kind == "csv":
        settings = _plain(path, "\t" if name.endswith(".tsv") else ",", library)
    try:
        return library.load_dataset(kind, data_files={"train": path}, split="train", **settings)
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(f"{path}: it cannot be read as {kind} ({reason})") from None


def _plain(path: str, separator: str, library: Any) -> dict[str, Any]:
    """What makes texts of a table texts, those that look like numbers or nothing too."""
    _, header = next(read_lines(path))
    names = next(csv.reader([header], delimiter=separator))
    features = library.Features({name: library.Value("string") for name in names})
    return {"sep": separator, "features": features, "keep_default_na": False}
