"""`--metrics`: what is reported of outputs beside the metrics of the task."""

import json

import pytest

from tests.cli.tiny import TINY

OWN = '''\
def vowels(outputs, references, *, letters: str = "aeiou"):
    """Compute the share of outputs with a vowel."""
    return sum(any(letter in output for letter in letters) for output in outputs) / len(outputs)
'''


@pytest.fixture(autouse=True)
def own(here):
    """A file with a metric in the current folder."""
    (here / "mine.py").write_text(OWN)


def test_a_comparison_reports_and_records_them(run, tmp_path):
    words = ["digits", "--output", "out", "--seeds", "1", "--methods", "mle", "--quiet", *TINY]
    metrics = ["--metrics", "token_error", "mine.py:vowels:letters=x"]
    status, output, errors = run("compare", *words, *metrics)
    assert (status, errors) == (0, "")
    assert "token error" in output
    test = json.loads((tmp_path / "out" / "results.json").read_text())["methods"]["mle"]["test"]
    assert {"character_error", "exact_match", "token_error", "vowels"} <= set(test)
    assert test["vowels"]["mean"] == 0
    record = json.loads((tmp_path / "out" / "mle" / "seed-0" / "freerun.json").read_text())
    assert record["task"]["settings"]["metrics"] == ["token_error", "mine.py:vowels:letters=x"]


def test_yaml_lists_them_and_a_run_is_evaluated_with_its_own_and_with_others(run, tmp_path):
    (tmp_path / "run.yaml").write_text("metrics: [token_error, repetition:n=3]\n")
    words = ["train", "digits", "--output", "out", "--quiet", "--config", "run.yaml", *TINY]
    status, output, errors = run(*words)
    assert (status, errors) == (0, "")
    assert "  token error " in output
    status, output, _ = run("evaluate", "out", "--metrics", "chrf", "--json", "out.json")
    assert status == 0
    found = list(json.loads((tmp_path / "out.json").read_text())["metrics"])
    assert found == ["character_error", "exact_match", "token_error", "repetition", "chrf"]
    assert "\nchrF2|" in output
    # With other settings, it replaces that of the run.
    status, _, errors = run("evaluate", "out", "--metrics", "repetition:n=2")
    assert (status, errors) == (0, "")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["exact"], "unknown metric 'exact'; did you mean "
         "'exact_match'?"),
        (["repetition:k=2"], "metric 'repetition:k=2': unknown setting 'k'; known are n"),
        (["mine.py:vowel"], "metric 'mine.py:vowel': there is no vowel in mine.py; did you mean "
         "'vowels'?"),
        ([], "--metrics needs a value"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["train", "compare"])
def test_errors_are_reported_before_training(refuses, tmp_path, command, metrics, message):
    words = ["digits", "--output", "out", "--metrics", *metrics]
    refuses(f"freerun {command}: {message}", command, *words)
    assert not (tmp_path / "out").exists()


def test_a_metric_that_fails_does_so_before_training(run, tmp_path):
    (tmp_path / "mine.py").write_text("def broken(outputs, references):\n    return outputs[0].x\n")
    status, _, errors = run(
        "train", "digits", "--output", "out", "--metrics", "mine.py:broken", *TINY
    )
    assert status != 0
    assert "mine.py, line 2: AttributeError: 'str' object has no attribute 'x'" in errors
    assert not (tmp_path / "out").exists()


def test_a_metric_that_the_outputs_do_not_allow_is_refused(run, tmp_path):
    status, _, errors = run("train", "digits", "--output", "out", "--metrics", "chunk_f1", *TINY)
    assert status == 2
    assert errors.startswith("freerun train: ")
    assert len(errors.splitlines()) == 1
    assert "chunk_f1" in errors
    assert not (tmp_path / "out").exists()
