"""Datasets: folders with files for each split, folders saved by `datasets`, and ids on the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from os.path import exists, isdir, normpath
from pathlib import Path, PurePath
from types import ModuleType

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from freerun.data.files import get_suffix
from freerun.data.tables import FORMATS, Table, convert_arrow, read_table
from freerun.errors import DataError
from freerun.files import read_json
from freerun.hub import can_reach_hub, use_cache_only
from freerun.imports import import_extra

SPLIT_WORDS = {
    "train": re.compile(r"(?<![a-z])(train|training)(?![a-z])", re.IGNORECASE),
    "dev": re.compile(r"(?<![a-z])(dev|devel|valid|validation|val|testa)(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"(?<![a-z])(test|testing|testb)(?![a-z])", re.IGNORECASE),
}
"""The words in the names of files, by split."""
_EVALUATION = re.compile(r"(?<![a-z])(eval|evaluation)(?![a-z])", re.IGNORECASE)

_ID = re.compile(r"[\w-]+(\.\d[\w-]*)*(/[\w-]+(\.\d[\w-]*)*)?")


def is_dataset(data: str) -> bool:
    """Return whether `data` is a folder, or may be the id of a dataset on the hub.

    Raises:
        DataError: if it cannot be a path.
    """
    if not data or "\0" in data:
        raise DataError(f"data is {data!r}; it must name a file, a folder or a dataset")
    # Unlike pathlib, these functions do not raise errors for names that no file can have.
    return isdir(data) or (not exists(data) and _ID.fullmatch(data) is not None)


TableReader = Callable[[str], Table]
"""A function that reads a file of rows."""


def read_splits(
    data: str, subset: str | None = None, read: TableReader = read_table
) -> dict[str, Table]:
    """Read the splits of a dataset, or of a file, all of which is train.

    Args:
        data: a file (see `FORMATS`), a folder, or an id on the Hugging Face hub.
        subset: the subset of a dataset.
        read: reads a file of rows, if `data` is a file or a folder.

    Raises:
        DataError: names the file, the line and what is expected.
        MissingExtraError: if a library is not installed.
    """
    if is_dataset(data):
        return load_splits(data, subset, read)
    if subset is not None:
        raise DataError(f"{data}: it is a file, and has no subset {subset!r}")
    return {"train": read(data)}


def load_splits(
    data: str, subset: str | None = None, read: TableReader = read_table
) -> dict[str, Table]:
    """Load the splits of a dataset, named train, dev and test; some may be missing.

    The files of a folder are read each time: descriptions in it (README.md, an index) are ignored,
    nothing outside of it is read, and neither a cache nor the network is used.

    Args:
        data: a folder, or an id on the Hugging Face hub.
        subset: the subset of a dataset; in a folder, the name of a folder in it.
        read: reads a file of rows in a folder.

    Raises:
        DataError: if it cannot be loaded or has no training split.
        MissingExtraError: if a library is not installed.
    """
    folder = Path(data)
    if not folder.is_dir():
        found = _load_from_hub(data, subset)
    elif (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        if subset is not None:
            raise DataError(f"{data}: it was saved as it is, and has no subset {subset!r}")
        found = _read_saved(folder)
    else:
        found = _read_folder(folder, subset, read)
    if "train" not in found:
        raise DataError(f"{data}: no split is called train; it has {', '.join(found) or 'none'}")
    return found


def _read_folder(folder: Path, subset: str | None, read: TableReader) -> dict[str, Table]:
    """Read the files of rows in a folder."""
    if subset is not None:
        if not (subset.replace("-", "").replace("_", "").isalnum() and (folder / subset).is_dir()):
            raise DataError(f"{folder}: there is no folder {subset!r} in it, its subset")
        folder = folder / subset
    suffixes = {*FORMATS, *(f"{suffix}.gz" for suffix in FORMATS)}
    files = find_split_files(folder, suffixes)
    if not files:
        raise DataError(
            f"{folder}: no file of rows is in it; they end in {', '.join(FORMATS)}, and their "
            "names say train, dev or test"
        )
    return {
        split: _join([read(str(path)) for path in paths], f"{folder} ({split})")
        for split, paths in files.items()
    }


def find_split_files(folder: Path, suffixes: Collection[str]) -> dict[str, list[Path]]:
    """Find the files of the splits in a folder, in a folder `data` in it, or in a folder per split.

    A file belongs to the split that its name, or that of its folder, contains as a word. Several
    files of one split are its parts if their names differ only in numbers, or if they have their
    own folder. If no name contains a split, all files are train.

    Args:
        folder: the folder.
        suffixes: the extensions of the files to find.

    Raises:
        DataError: if it is ambiguous which files are a split, or one lies outside of the folder.
    """
    paths = [path for path in _list_files(folder) if "".join(_suffixes(path)) in suffixes]
    groups: dict[str, dict[str, list[Path]]] = {}
    for path in paths:
        own = path.parent != folder and path.parent.name != "data"
        split = find_split(path.name) or (find_split(path.parent.name) if own else None)
        alike = str(path.parent) if own else re.sub(r"\d+", "0", path.name)
        groups.setdefault(split or "", {}).setdefault(alike, []).append(path)
    if set(groups) == {""}:
        groups = {"train": groups[""]}
    groups.pop("", None)
    for split, kinds in groups.items():
        if len(kinds) > 1 or len({tuple(_suffixes(p)) for ps in kinds.values() for p in ps}) > 1:
            one, other, *_ = (path for paths in kinds.values() for path in paths)
            if len(kinds) > 1:
                one, other = (paths[0] for paths in list(kinds.values())[:2])
            raise DataError(
                f"{folder}: both {one.relative_to(folder)} and {other.relative_to(folder)} may be "
                f"the {split} file; leave one of them"
            )
    found = {split: next(iter(kinds.values())) for split, kinds in groups.items()}
    for path in (path for paths in found.values() for path in paths):
        check_inside(path, folder)
    return {split: sorted(found[split]) for split in SPLIT_WORDS if split in found}


def _suffixes(path: Path) -> Iterable[str]:
    """Return the extension of a file, including .gz."""
    plain = Path(path.name.removesuffix(".gz"))
    return plain.suffix.lower(), ".gz" if path.name.endswith(".gz") else ""


def _list_files(folder: Path) -> list[Path]:
    """List the files in a folder, in `data` in it, and in folders in it named after a split."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            found.append(path)
        elif path.is_dir() and (path.name == "data" or find_split(path.name)):
            check_inside(path, folder)
            within = sorted(path.iterdir())
            found += [p for p in within if p.is_file() and not p.name.startswith(".")]
    return found


def find_split(name: str) -> str | None:
    """Return the split that a name contains as a word; None if there is none.

    Raises:
        DataError: if it contains several, or one that may be dev or test.
    """
    found = [split for split, words in SPLIT_WORDS.items() if words.search(name)]
    if len(found) > 1:
        raise DataError(f"{name}: the name says both {found[0]} and {found[1]}; rename the file")
    if not found and _EVALUATION.search(name):
        raise DataError(f"{name}: the name says eval, which may be dev or test; rename the file")
    return found[0] if found else None


def check_inside(path: Path, folder: Path) -> None:
    """Check that a file lies in a folder, even after links are followed.

    Raises:
        DataError: if it does not.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{path}: it leads to {path.resolve()}, outside of {folder}, and is not read; put the "
            "file itself there"
        )


def _join(tables: list[Table], name: str) -> Table:
    """Join the parts of a split."""
    if len(tables) == 1:
        return tables[0]
    first = tables[0]
    for table in tables[1:]:
        if table.classes != first.classes:
            raise DataError(f"{table.name}: its class labels are not those of {first.name}")
    return Table(name, [row for t in tables for row in t.rows], first.columns, first.classes)


def _read_saved(folder: Path) -> dict[str, Table]:
    """Read a folder that `save_to_disk` of the `datasets` library wrote."""
    index = folder / "dataset_dict.json"
    if not index.exists():
        return {"train": _read_saved_split(folder, folder, str(folder))}
    names = read_json(index, DataError).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{index}: splits is {names!r:.40}; it must be a list of names")
    return _name_splits(
        {name: _read_saved_split(folder / name, folder, f"{folder} ({name})") for name in names}
    )


def _read_saved_split(part: Path, folder: Path, name: str) -> Table:
    state = part / "state.json"
    check_inside(state, folder)
    contents = read_json(state, DataError)
    entries = contents.get("_data_files")
    try:
        files = [PurePath(entry["filename"]) for entry in entries]  # type: ignore[union-attr]
    except (TypeError, KeyError):
        raise DataError(f"{state}: _data_files is {entries!r:.40}; it must name files") from None
    if contents.get("_indices_data_files"):
        raise DataError(f"{state}: the rows are a choice of others; save it with flatten_indices()")
    if not files:
        raise DataError(f"{state}: _data_files names no file")
    for file in files:
        check_inside(part / file, part)
        if not (part / file).is_file():
            raise DataError(f"{part / file}: there is no such file")
    return _join([read_table(str(part / file)) for file in files], name)


def _name_splits(tables: dict[str, Table]) -> dict[str, Table]:
    """Return tables by freerun's names of the splits; others are left out."""
    found: dict[str, Table] = {}
    for name, table in tables.items():
        split = next((ours for ours, words in SPLIT_WORDS.items() if words.fullmatch(name)), None)
        if split in found:
            raise DataError(f"{table.name}: a split of it is called {split}, too; rename one")
        if split is not None:
            found[split] = table
    if "train" not in found:
        known = ", ".join(tables) or "none"
        where = next(iter(tables.values())).name.partition(" (")[0] if tables else "the dataset"
        raise DataError(f"{where}: no split is called train; it has {known}")
    return found


def _load_from_hub(data: str, subset: str | None) -> dict[str, Table]:
    """Load a dataset from the Hugging Face hub, or from its cache.

    The `datasets` library finds and fetches the files. It guesses the types of CSV and JSON, and so
    changes them; these are read here.
    """
    library = import_extra("datasets", "datasets", f"reading {data} as a dataset")
    library.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    library.disable_progress_bars()
    names = [data] if subset is None else [data, subset]
    offline = library.config.HF_HUB_OFFLINE
    cached = offline or not can_reach_hub()
    library.config.HF_HUB_OFFLINE = cached
    try:
        with use_cache_only() if cached else nullcontext():
            files = _find_hub_files(library, data, subset, cached)
            loaded = library.load_dataset(*names) if files is None else {}
    except DataError:
        raise
    except Exception as error:  # of any library that it calls
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"{data}: no file, no folder and no dataset that can be loaded ({reason:.300})"
        raise DataError(message) from None
    finally:
        library.config.HF_HUB_OFFLINE = offline
    if files is not None:
        return _name_splits(
            {
                name: _join([read_table(path) for path in paths], f"{data} ({name})")
                for name, paths in files.items()
            }
        )
    if isinstance(loaded, library.Dataset):
        loaded = {"train": loaded}
    for split in loaded.values():
        if split.info.builder_name in _GUESSED:
            raise DataError(
                f"{data}: the cache has only what the library datasets made of its "
                f"{split.info.builder_name.upper()} files, which may differ from them; load it "
                "once with the hub, or name a folder with the files"
            )
    return _name_splits(
        {
            name: convert_arrow(split.with_format("arrow")[:], f"{data} ({name})")
            for name, split in loaded.items()
        }
    )


_GUESSED = ("csv", "json")
"""The formats whose types the `datasets` library guesses."""


def _find_hub_files(
    library: ModuleType, data: str, subset: str | None, cached: bool
) -> dict[str, list[str]] | None:
    """Fetch the files of the splits of a dataset on the hub, if they are CSV or JSON.

    Args:
        library: the `datasets` library.
        data: the id.
        subset: the part of the dataset.
        cached: whether only the cache is used.

    Returns:
        Paths of local files by split; None for other formats, or if the cache has no such files.
    """
    folder = ""
    if cached:
        try:
            folder = snapshot_download(data, repo_type="dataset", local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError):
            return None
    try:
        builder = library.load_dataset_builder(folder or data, subset)
    except FileNotFoundError:
        if not folder:
            raise
        return None
    if type(builder).__module__.rpartition(".")[2] not in _GUESSED:
        return None
    tabs = _check_format(data, builder.config)
    manager = library.DownloadManager()
    found = {}
    for name, urls in builder.config.data_files.items():
        # A description in the cache may name files elsewhere.
        for url in urls if folder else ():
            if not Path(normpath(url)).is_relative_to(folder):
                raise DataError(f"{data}: its description names {url}, which is outside of it")
        paths = found[str(name)] = manager.download([str(url) for url in urls])
        for path in paths:
            if (get_suffix(path) == ".tsv") != tabs:
                raise DataError(f"{path}: the extension of files with tabs must be .tsv")
    return found


def _check_format(data: str, config: object) -> bool:
    """Return whether tabs separate cells, after checking that files need no other setting.

    Raises:
        DataError: if they do.
    """
    usual = type(config)()
    tabs = getattr(config, "sep", ",") == "\t"
    for name in vars(usual):
        value = getattr(config, name)
        known = name in _NO_FORMAT or (name == "sep" and tabs)
        if not known and value != getattr(usual, name):
            raise DataError(
                f"{data}: it is to be read with {name}={value!r:.40}, which is not done; name a "
                "folder with files that need no such setting"
            )
    return tabs


_NO_FORMAT = {"name", "version", "data_dir", "data_files", "description", "features", "delimiter"}
"""Settings of `datasets` that do not change how a file is read here."""
