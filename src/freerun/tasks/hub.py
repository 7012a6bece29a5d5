"""Data by the `datasets` library: an id on the Hugging Face hub, or a local folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freerun.tasks.base import DataError
from freerun.tasks.extras import extra

_SPLITS = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid", "val"),
    "test": ("test",),
}
_ID = re.compile(r"[\w-]+(\.\d[\w-]*)*(/[\w-]+(\.\d[\w-]*)*)?")


def is_dataset(data: str) -> bool:
    """Whether `data` is a folder, or may be an id: nothing here has that name, nor an extension."""
    path = Path(data)
    return path.is_dir() or (not path.exists() and _ID.fullmatch(data) is not None)


def load_splits(data: str, subset: str | None = None) -> dict[str, Any]:
    """The splits of a dataset, named train, dev and test; those that it does not have are left out.

    Args:
        data: an id, or a folder.
        subset: the part of the dataset, for those that have several.

    Raises:
        DataError: where it cannot be loaded or has no training split.
        MissingExtraError: where `datasets` is not installed.
    """
    library = extra("datasets", "datasets", f"reading {data} as a dataset")
    folder = Path(data)
    saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    if saved and subset is not None:
        raise DataError(f"{data}: it was saved as it is, and has no subset {subset!r}")
    names = [data] if subset is None else [data, subset]
    try:
        loaded = library.load_from_disk(data) if saved else library.load_dataset(*names)
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        known = "cannot be loaded as a dataset"
        unknown = "no file, no folder and no dataset that can be loaded"
        message = f"{data}: {known if folder.exists() else unknown} ({error})"
        raise DataError(message) from None
    if isinstance(loaded, library.Dataset):
        loaded = {"train": loaded}
    splits = {
        split: loaded[name] for split, names in _SPLITS.items() for name in names if name in loaded
    }
    if "train" not in splits:
        raise DataError(f"{data}: no split is called train; it has {', '.join(loaded)}")
    return splits


def column(split: Any, names: Sequence[str], where: str) -> str:
    """The first of `names` that is a column of `split`.

    Raises:
        DataError: where there is none.
    """
    for name in names:
        if name in split.column_names:
            return name
    wanted = " or ".join(names)
    raise DataError(f"{where}: no column {wanted}; it has {', '.join(split.column_names)}")
