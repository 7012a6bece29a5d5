"""Continuation of text on the command line, with every kind of model."""

import json

import pytest

from tests.cli.tiny import MODEL, TRAINING

STORY = "\n\n".join(f"On day {i} the bells rang.\nNobody knew why: {i * i}." for i in range(40))
TASK = ["--task.prompt", "6", "--task.length", "9"]
SMALL = ["--model.hidden_size", "8", "--model.layers", "1", "--model.heads", "2"]
KINDS = {
    "recurrent": MODEL,
    "causal": ["--model", "causal", *SMALL],
    "seq2seq": ["--model", "seq2seq", *SMALL],
}
METRICS = ["ms_jaccard", "entropy", "diversity", "repetition"]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "story.txt"
    path.write_text(STORY)
    return path


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory, story):
    """The folder of a model that was trained from the command line."""
    from freerun.cli import main

    output = tmp_path_factory.mktemp("trained") / "model"
    flags = [*TASK, *KINDS[request.param], *TRAINING, "--output", str(output), "--quiet"]
    assert main(["train", "text", "--data", str(story), *flags]) == 0
    return output


def test_perplexity_is_printed_as_teacher_forced(run, trained, tmp_path):
    figures = tmp_path / "figures.json"
    status, output, errors = run("evaluate", trained, "--json", figures)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "text, test, 4 examples, free-running, greedy:"
    assert [line.split()[0] for line in lines[1:5]] == [
        "MS-Jaccard",
        "entropy",
        "diversity",
        "repetition",
    ]
    assert [line.endswith(" %") for line in lines[1:5]] == [True, False, True, True]
    assert lines[5].startswith("teacher-forced, which is not how it runs: log loss ")
    assert [line for line in lines if "perplexity" in line] == lines[5:]
    assert list(json.loads(figures.read_text())["metrics"]) == METRICS


def test_it_predicts_from_short_and_long_prompts(run, trained, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("On day 3 the bells \nNo\n")
    status, output, errors = run("predict", trained, path)
    assert (status, errors.partition(":")[0]) in ((0, ""), (0, "note"))  # some are cut off
    assert len(output.splitlines()) == 2
    assert all(len(line) <= 9 * len("<unk>") for line in output.splitlines())


def test_mauve_uses_the_states_of_another_trained_model(run, story, tmp_path):
    judge = tmp_path / "judge"
    words = ["train", "text", "--data", story, *TASK, *KINDS["causal"], *TRAINING]
    assert run(*words, "--output", judge, "--quiet")[0] == 0
    metrics = ["--metrics", f"mauve:model={judge}"]
    status, output, _ = run(*words, *metrics, "--output", tmp_path / "other", "--quiet")
    assert status == 0
    assert "  MAUVE" in output
    status, output, errors = run("evaluate", tmp_path / "other")
    assert (status, errors) == (0, "")
    assert f"\nMAUVE|features:{judge}, mean of states|mauve-text:" in output


def test_a_comparison_shows_the_score_of_the_majority_guess(run, story, tmp_path):
    methods = ["--methods", "mle", "scheduled_sampling:schedule=constant,k=0.5"]
    flags = [*TASK, *KINDS["recurrent"], *TRAINING, "--seeds", "1", "--output", tmp_path / "runs"]
    status, output, _ = run("compare", "text", "--data", story, *methods, *flags, "--quiet")
    assert status == 0
    assert "majority guess" in output
    results = json.loads((tmp_path / "runs" / "results.json").read_text())
    assert list(results["majority"]) == METRICS
    assert results["majority"]["ms_jaccard"] > 0.2


def test_a_text_without_paragraphs_is_refused(run, refuses, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("one line\n" * 50)
    refuses(
        f"freerun train: {path}: 1 paragraphs are too few to split; paragraphs have an empty line "
        "between them",
        *("train", "text", "--data", path, "--output", tmp_path / "run"),
    )


def test_an_oracle_that_freerun_trained_judges_text(run, trained, tmp_path):
    figures = tmp_path / "figures.json"
    words = ["--draws", "9", "--json", figures]
    status, output, errors = run("diagnose", trained, "--oracle", trained, *words)
    assert (status, errors) == (0, "")
    assert output.startswith("text, dev, 4 examples, greedy:\n")
    assert json.loads(figures.read_text())["regret_by_length"][-1] == 0
