"""`freerun diagnose`: the measurement of a trained model, in words and as JSON."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from freerun.evaluation import Decoding, measure_exposure_bias
from freerun.report.diagnosis import describe_exposure_bias, list_rates
from freerun.study.diagnosis import suggest_comparison
from freerun.tasks import Digits, load_data
from freerun.training import load_policy
from tests.report.browser import look


@pytest.mark.parametrize("sampled", [False, True])
def test_words_figures_and_json_are_those_of_the_measurement(run, trained, tmp_path, sampled):
    policy, codec = load_policy(trained)
    data = load_data(Digits(train_size=40, dev_size=12, test_size=14), codec)
    decoding = Decoding(sample=sampled, seed=7 if sampled else 0)
    found = measure_exposure_bias(
        policy, data.test, decoding=decoding, seed=decoding.seed, draws=50
    )
    words = ["--split", "test", "--draws", "50", "--json", tmp_path / "found.json"]
    words += ["--sample", "--seed", "7"] if sampled else []
    status, output, errors = run("diagnose", trained, *words)
    assert (status, errors) == (0, "")
    assert output.startswith(f"digits, test, 14 examples, {decoding.how}:\n\n")
    for line in describe_exposure_bias(found):
        assert line in output
    assert [output.count(value) > 0 for _, value in list_rates(found)] == [True] * 7
    saved = json.loads((tmp_path / "found.json").read_text())
    assert saved["after_own"] == asdict(found)["after_own"]
    assert saved["paired_by_position"] == found.paired_by_position


def test_the_dev_split_is_the_default(run, trained):
    status, output, _ = run("diagnose", trained)
    assert status == 0
    assert output.startswith("digits, dev, 12 examples, greedy:\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draws", "0"], "draws is 0; it must be at least 1"),
        (["--cost", "bleu"], "'bleu'"),
        (["--json", "nowhere/found.json"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_one_line(run, trained, words, message):
    status, _, errors = run("diagnose", trained, *words)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_the_report_is_a_page_with_a_plot(run, trained, tmp_path):
    page = tmp_path / "page.html"
    status, output, errors = run("diagnose", trained, "--draws", "20", "--report", page)
    assert (status, errors) == (0, "")
    assert output.endswith(f"\n{page}\n")
    seen = look(page.read_text(), tmp_path)
    assert seen["title"] == f"{trained}: does it suffer from its own mistakes?"
    for line in output.splitlines()[2:4]:
        assert line in seen["text"]
    assert "errors per token after own prefixes" in seen["text"]
    assert f"freerun diagnose {trained} --draws 20" in seen["text"]
    assert "after the nearest correct prefixes" in seen["text"]
    assert len(seen["pictures"]) == 1


def test_the_suggested_comparison_has_the_settings_of_the_run(run, trained):
    command = suggest_comparison(str(trained))
    words = shlex.split(command)
    assert words[:3] == ["freerun", "compare", "digits"]
    output = words[-1]
    status, _, errors = run(*words[1:], "--seeds", "1", "--quiet")
    assert status == 0, errors
    folders = trained, Path(output, "mle", "seed-0")
    there, here = (json.loads(Path(folder, "freerun.json").read_text()) for folder in folders)
    for name in ("task", "model", "training"):
        assert here[name] == there[name]


def test_the_suggested_comparison_names_the_data(speller, text):
    words = shlex.split(suggest_comparison(str(speller)))
    assert words[words.index("--data") + 1] == str(text)


@pytest.mark.parametrize("budget", [None, "0.5"])
def test_for_bleu_the_suggested_comparison_continues_from_the_model(run, tmp_path, budget):
    table = tmp_path / "pairs.tsv"
    words = ("one", "two", "three", "four", "five")
    table.write_text("".join(f"{a} {b}\t{b} {a}\n" for a in words for b in words if a != b))
    folder = tmp_path / "model"
    made = ["--data", table, "--output", folder, "--model.hidden_size", "8"]
    made += ["--model.embedding_size", "8", "--training.evaluate_every", "11"]
    made += ["--budget", budget] if budget else ["--training.updates", "11"]
    status, _, errors = run("train", "translation", *made, "--training.learning_rate", "0.01")
    assert status == 0, errors
    words = shlex.split(suggest_comparison(str(folder)))
    start = words.index("--methods")
    assert [word.split(":")[0] for word in words[start + 1 : -2]] == ["mle", "ocd", "searnn"]
    status, _, errors = run(*words[1:], "--seeds", "1", "--quiet")
    assert status == 0, errors
    folders = folder, Path(words[-1], "mle", "seed-0")
    there, here = (json.loads((each / "freerun.json").read_text())["training"] for each in folders)
    if budget:  # has no effect
        del here["updates"]
    changed = {"learning_rate": 0.002, "evaluate_every": 2}
    changed |= {"budget": 0.05} if budget else {"updates": 2}
    assert {name: value for name, value in here.items() if value != there[name]} == changed


def test_errors_by_position_are_drawn(run, trained, tmp_path):
    assert run("diagnose", trained, "--png", tmp_path / "errors.png", "--draws", "9")[0] == 0
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
