"""`freerun report`: the report of a finished comparison, and its table in other formats."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

import freerun
from freerun.report.comparison import NO_OUTPUTS
from tests.cli.tiny import MODEL, TRAINING

HALF = "scheduled_sampling:schedule=constant,k=0.5"
MEASURED = Path(freerun.__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison, and what was printed at its end."""
    from freerun.cli import main

    folder = tmp_path_factory.mktemp("comparison")
    text = folder / "text.txt"
    text.write_text(" ".join(f"{number:o}" for number in range(2000, 2400)))
    words = ["compare", "spelling", "--data", str(text), "--methods", "mle", HALF, "--seeds", "2"]
    words += ["--task.dev_size", "8", "--task.test_size", "9", "--beam", "2", "--quiet"]
    assert main([*words, "--output", str(folder / "out"), *MODEL, *TRAINING]) == 0
    return folder / "out"


def test_a_comparison_ends_in_a_report(finished):
    page = (finished / "report.html").read_text()
    results = json.loads((finished / "results.json").read_text())
    assert "spelling: 2 training methods compared" in page
    for entry in results["methods"].values():
        assert f"{100 * entry['test']['character_error']['mean']:.2f} ± " in page
    assert NO_OUTPUTS not in page
    first = json.loads((finished / "mle" / "seed-0" / "outputs.jsonl").read_text().split("\n")[0])
    assert f'<dd dir="auto">{first["reference"]}</dd>' in page
    assert "freerun compare spelling --data" in page.replace("<span>", "").replace("</span>", "")
    for digest in results["data"].values():
        assert digest in page


def test_it_is_made_anew_from_the_files(run, finished, tmp_path):
    before = (finished / "report.html").read_text()
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.html"))
    assert run("report", copy) == (0, f"{copy / 'report.html'}\n", "")
    assert (copy / "report.html").read_text() == before


def test_without_outputs_examples_are_left_out(run, finished, tmp_path):
    shutil.copy(finished / "results.json", tmp_path)
    page = tmp_path / "page.html"
    status, printed, errors = run("report", tmp_path / "results.json", "--output", page)
    assert (status, printed, errors) == (0, f"{page}\n", "")
    assert NO_OUTPUTS in page.read_text()
    assert not (tmp_path / "report.html").exists()


def test_csv_has_all_digits(run, finished):
    results = json.loads((finished / "results.json").read_text())
    status, printed, _ = run("report", finished, "--format", "csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["method"] for row in rows] == [
        "mle", "mle, beam 2", HALF, f"{HALF}, beam 2", "majority guess",
    ]  # fmt: skip
    entry = results["methods"][HALF]
    for i, prefix in ((2, ""), (3, "beam_")):
        for metric in ("character_error", "exact_match"):
            for name, figure in (("test", ""), ("difference_to_mle", "_difference")):
                found = entry[name][f"{prefix}{metric}"]
                assert float(rows[i][f"{metric}{figure}"]) == found["mean"]
                assert float(rows[i][f"{metric}{figure}_low"]) == found["low"]
                assert float(rows[i][f"{metric}{figure}_high"]) == found["high"]
    assert rows[0]["character_error_difference"] == ""
    assert float(rows[2]["seconds_per_update"]) == entry["seconds_per_update"]["mean"]
    assert float(rows[4]["exact_match"]) == results["majority"]["exact_match"]


def test_markdown_and_latex_of_results_of_an_older_version(run, tmp_path):
    status, printed, _ = run("report", MEASURED / "spelling-0.5", "--format", "markdown")
    assert status == 0
    lines = printed.splitlines()
    assert lines[:2] == [
        "| method | character error % ↓ | Δ (95 % interval) | exact match % ↑ | "
        "Δ (95 % interval) | time, relative to mle |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert lines[4] == (
        "| scheduled\\_sampling | 41.24 ± 0.18 | -4.50\\* (-5.69 to -3.32) | 2.22 ± 0.28 | "
        "-1.50\\* (-2.96 to -0.04) | 1.23 × |"
    )
    file = tmp_path / "table.tex"
    status, printed, _ = run(
        "report", MEASURED / "spelling-0.5", "--format", "latex", "--output", file
    )
    assert (status, printed) == (0, f"{file}\n")
    lines = file.read_text().splitlines()
    start = lines.index("\\begin{tabular}{lrrrrr}")
    assert all(line.startswith("% ") for line in lines[:start])
    assert lines[start + 6] == (
        "scheduled\\_sampling & 41.24 $\\pm$ 0.18 & $-$4.50* ($-$5.69 to $-$3.32) & "
        "2.22 $\\pm$ 0.28 & $-$1.50* ($-$2.96 to $-$0.04) & 1.23 $\\times$ \\\\"
    )


@pytest.mark.parametrize(
    "path", sorted(MEASURED.glob("*/results.json")), ids=lambda p: p.parent.name
)
def test_measured_results_have_a_report(run, tmp_path, path):
    page = tmp_path / "page.html"
    assert run("report", path, "--output", page)[0] == 0
    methods = json.loads(path.read_text())["methods"]
    assert all(name in page.read_text() for name in methods)


def test_damaged_results_are_named(refuses, finished, tmp_path):
    path = tmp_path / "results.json"
    where = f"freerun report: {path}: "
    refuses(f"{where}there is no such file; name the folder of a comparison", "report", tmp_path)
    whole = json.loads((finished / "results.json").read_text())
    path.write_text(json.dumps({**whole, "seeds": "all"}))
    refuses(f'{where}seeds is "all"; it must be a list', "report", tmp_path)
    del whole["methods"]["mle"]["test"]["character_error"]["mean"]
    path.write_text(json.dumps(whole))
    refuses(
        f"{where}methods.mle.test.character_error.mean is missing; is it the results of a "
        "comparison?",
        "report",
        path,
    )


def test_outputs_that_are_damaged_are_named(run, finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    path = copy / "mle" / "seed-0" / "outputs.jsonl"
    path.write_text("{}\n")
    status, _, errors = run("report", copy)
    assert (status, errors) == (
        2, f"freerun report: {path}, line 1: reference is null; it must be text\n"
    )  # fmt: skip


def test_the_help(run):
    status, printed, _ = run("report", "--help")
    assert status == 0
    assert printed.startswith("Usage: freerun report COMPARISON [OPTIONS]")
    assert "--format {html,markdown,latex,csv}" in printed
    assert "--output FILE" in printed
