"""Read a finished comparison: its results, its outputs, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freerun.errors import CheckpointError
from freerun.evaluation import estimate, estimate_difference, summary
from freerun.files import check_json, read_json, restore_nan, write
from freerun.imports import import_extra
from freerun.report.comparison import write_page
from freerun.report.labels import ResultsFile
from freerun.report.table import SEEDS_ONLY
from freerun.study.outputs import OUTPUTS, read_outputs
from freerun.study.results import RESULTS_FILE
from freerun.study.specs import make_folder_name

REPORT_FILE = "report.html"
_Figure = dict[str, Any]
_FIELDS: dict[str, Any] = {
    "task": dict[str, Any],
    "methods": dict[str, dict[str, Any]],
    "training": dict[str, Any],
    "seeds": list[int],
    "base": str | None,
    "majority": dict[str, float],
}
_TASK_FIELDS: dict[str, Any] = {"name": str, "metric": str, "greater_is_better": bool}
_TRAINING_FIELDS: dict[str, Any] = {
    "updates": int,
    "budget": float | None,
    "patience": int | None,
}
_CONTROL_FIELDS: dict[str, Any] = {"mean": list[float], "std": list[float | None]}
_POSITION_FIELDS = {**_CONTROL_FIELDS, "count": list[int]}
_METHOD_FIELDS: dict[str, Any] = {
    "method": str,
    "settings": dict[str, Any],
    "test": dict[str, _Figure],
    "difference_to_mle": dict[str, _Figure] | None,
    "updates": list[int],
    "seconds_per_update": _Figure,
    "time_relative_to_mle": _Figure | None,
    "learning_curves": list[list[dict[str, Any]]],
    "error_by_position": dict[str, list[Any]],
}


def read_results(directory: str | Path) -> dict[str, Any]:
    """Read the results of a comparison.

    Files of older versions have no intervals. They are computed over seeds, without test examples,
    and `intervals` is "seeds".

    Args:
        directory: the folder of the comparison, or the file results.json itself.

    Raises:
        CheckpointError: if there are none, or they are damaged; the file and the field are named.
    """
    path = Path(directory)
    path = path if path.is_file() else path / RESULTS_FILE
    if path.parent.is_dir() and not path.exists():
        raise CheckpointError(f"{path}: there is no such file; name the folder of a comparison")
    results = read_json(path)
    _check_fields(results, _FIELDS, f"{path}: ")
    _check_fields(results["task"], _TASK_FIELDS, f"{path}: task.")
    _check_fields(results["training"], _TRAINING_FIELDS, f"{path}: training.")
    headline = results["task"]["metric"]
    _check_fields(results["majority"], {headline: float}, f"{path}: majority.")
    if results["base"] not in (None, *results["methods"]):
        raise CheckpointError(f"{path}: base is {results['base']!r}; it must be one of the methods")
    if not results["methods"] or not results["seeds"]:
        raise CheckpointError(f"{path}: there are no runs in it")
    seeds = len(results["seeds"])
    for name, entry in results["methods"].items():
        where = f"{path}: methods.{name}."
        _check_fields(entry, _METHOD_FIELDS, where)
        entry["learning_curves"] = restore_nan(entry["learning_curves"])
        _check_fields(entry["error_by_position"], _POSITION_FIELDS, f"{where}error_by_position.")
        control = entry.get("error_after_reference")  # older files do not have it
        check_json(control, dict[str, list[Any]] | None, f"{where}error_after_reference")
        if control is not None:
            _check_fields(control, _CONTROL_FIELDS, f"{where}error_after_reference.")
        _check_positions(entry, where)
        _check_figure(entry["seconds_per_update"], f"{where}seconds_per_update.", seeds)
        for group in ("test", "difference_to_mle"):
            for metric, figure in (entry[group] or {}).items():
                _check_figure(figure, f"{where}{group}.{metric}.", seeds)
        for group in ("test", *(["difference_to_mle"] if results["base"] else [])):
            if headline not in (entry[group] or {}):
                raise CheckpointError(f"{where}{group}: the field {headline!r} is missing")
    return results if _has_intervals(results) else _add_intervals(results)


def _check_fields(contents: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> None:
    for name, kind in fields.items():
        if name not in contents:
            raise CheckpointError(f"{where}{name} is missing; is it the results of a comparison?")
        check_json(contents[name], kind, f"{where}{name}")


def _check_positions(entry: Mapping[str, Any], where: str) -> None:
    """Check that all errors by position are of equally many positions."""
    count = len(entry["error_by_position"]["count"])
    for group in ("error_by_position", "error_after_reference"):
        for name in ("mean", "std"):
            values = (entry.get(group) or {}).get(name)
            if values is not None and len(values) != count:
                raise CheckpointError(
                    f"{where}{group}.{name}: there are {len(values)}, but {count} positions"
                )


def _check_figure(figure: Mapping[str, Any], where: str, seeds: int) -> None:
    _check_fields(figure, {"mean": float, "std": float | None, "values": list[float]}, where)
    if len(figure["values"]) != seeds:
        count = len(figure["values"])
        raise CheckpointError(f"{where}values: there are {count}, but {seeds} seeds")


def _has_intervals(results: ResultsFile) -> bool:
    return all(
        "low" in figure
        for entry in results["methods"].values()
        for group in (entry["test"], entry["difference_to_mle"] or {})
        for figure in group.values()
    )


def _add_intervals(results: dict[str, Any]) -> dict[str, Any]:
    """Compute intervals over seeds alone, in results of a version that had none."""
    methods = {}
    for name, entry in results["methods"].items():
        methods[name] = {
            **entry,
            "test": {m: estimate(f["values"], None) for m, f in entry["test"].items()},
            "seconds_per_update": summary(entry["seconds_per_update"]["values"]),
        }
        if entry["difference_to_mle"] is not None:
            methods[name]["difference_to_mle"] = {
                metric: estimate_difference(figure["values"], None)
                for metric, figure in entry["difference_to_mle"].items()
            }
    return {**results, "methods": methods, "intervals": SEEDS_ONLY}


def read_data_frame(directory: str | Path) -> Any:
    """Read the figures of a comparison into a pandas DataFrame, one figure per row.

    Args:
        directory: the folder of the comparison, or the file results.json itself.

    Returns:
        A `pandas.DataFrame` with the columns `method`, `seed`, `split` (`test` or `dev`), `metric`,
        `value`, and `difference`, the value on test minus that of the baseline with the same seed.
        The metrics of beam search begin with `beam_`. The split `train` has the metrics `updates`,
        `seconds` and `seconds_per_update`.

    Raises:
        CheckpointError: if there are no results, or they are damaged.
        MissingExtraError: if pandas is missing.
    """
    frames = import_extra("pandas", "pandas", "freerun.study.read_data_frame")
    results = read_results(directory)
    rows = []
    for name, entry in results["methods"].items():
        groups = {"test": entry["test"], "dev": entry.get("dev", {})}
        values = {
            (split, metric): figure["values"]
            for split, group in groups.items()
            for metric, figure in group.items()
        }
        values["train", "updates"] = entry["updates"]
        values["train", "seconds"] = entry.get("seconds", [None] * len(results["seeds"]))
        values["train", "seconds_per_update"] = entry["seconds_per_update"]["values"]
        differences = entry["difference_to_mle"] or {}
        for (split, metric), each in values.items():
            against: list[float | None] = [None] * len(each)
            if split == "test" and metric in differences:
                against = differences[metric]["values"]
            for seed, value, difference in zip(results["seeds"], each, against, strict=True):
                rows.append((name, seed, split, metric, value, difference))
    columns = ["method", "seed", "split", "metric", "value", "difference"]
    return frames.DataFrame(rows, columns=columns).astype({"value": float, "difference": float})


def write_report(
    results: ResultsFile, directory: str | Path, path: str | Path | None = None
) -> Path:
    """Write the report of a comparison as a page of HTML; without plots if matplotlib is missing.

    Examples are shown if the folder has the outputs of all methods with the first seed.

    Args:
        results: its results.
        directory: its folder.
        path: the file to write; by default report.html in the folder.

    Raises:
        CheckpointError: if outputs are damaged.
        WriteError: if it cannot be written.
    """
    directory = Path(directory)
    path = directory / REPORT_FILE if path is None else Path(path)
    runs = {
        name: directory / make_folder_name(name) / f"seed-{results['seeds'][0]}" / OUTPUTS
        for name in results["methods"]
    }
    outputs = {}
    if all(file.is_file() for file in runs.values()):
        outputs = {name: read_outputs(file) for name, file in runs.items()}
    if len(set(map(len, outputs.values()))) > 1:
        outputs = {}  # they are of different data
    write(path, write_page(results, outputs))
    return path
