"""Translation on the command line: columns by name, files in pairs, signatures."""

import json

import pytest

from tests.cli.tiny import MODEL, TRAINING

WORDS = ["eins zwei", "zwei drei", "drei vier", "vier eins", "zwei eins", "drei zwei"]
TABLE = "en\tde\n" + "".join(f"one {i} {w}\t{i} {w} ja\n" for i in range(6) for w in WORDS)
TASK = ["--task.dev_size", "4", "--task.test_size", "3", "--task.source_tokens", "words:20"]
COLUMNS = ["--task.source_column", "de", "--task.target_column", "en"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text(TABLE)
    return path


@pytest.fixture(scope="module", params=["words", "bpe"])
def trained(request, tmp_path_factory, table):
    """The folder of a model that was trained from the command line."""
    from freerun.cli import main

    output = tmp_path_factory.mktemp("trained") / "model"
    pieces = ["--task.source_tokens", "bpe:300", "--task.target_tokens", "bpe:300"]
    words = pieces if request.param == "bpe" else TASK
    flags = [*COLUMNS, *words, *MODEL, *TRAINING, "--output", str(output), "--quiet"]
    assert main(["train", "translation", "--data", str(table), *flags]) == 0
    return output


def test_it_is_evaluated_with_its_signature(run, trained, tmp_path):
    figures = tmp_path / "figures.json"
    status, output, errors = run("evaluate", trained, "--beam", "2", "--json", figures)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["BLEU", "chrF", "exact"]
    assert lines[4].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert lines[5].startswith("chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    found = json.loads(figures.read_text())
    assert found["signatures"] == {"bleu": lines[4], "chrf": lines[5]}


def test_it_translates(run, trained, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("zwei eins ja\nnie gesehen\n")
    status, output, errors = run("predict", trained, text)
    assert (status, errors.partition(":")[0]) in ((0, ""), (0, "note"))  # some are cut off
    assert len(output.splitlines()) == 2


def test_another_file_has_the_same_columns(run, refuses, trained, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("de\ten\nzwei\ttwo\n")
    assert run("evaluate", trained, "--data", other)[0] == 0
    other.write_text("zwei\ttwo\n")
    refuses(
        f"freerun evaluate: {other}, line 1: no column 'de'; it has zwei, two",
        *("evaluate", trained, "--data", other),
    )


def test_source_and_target_in_two_files(run, tmp_path):
    files = []
    for side, word in (("source", "drei"), ("target", "three")):
        path = tmp_path / f"train.{side}"
        path.write_text("".join(f"{word} {i}\n" for i in range(40)))
        files += [f"--task.train_{side}", str(path)]
    flags = [*TASK, *MODEL, *TRAINING, "--output", tmp_path / "out"]
    status, _, errors = run("train", "translation", *files, *flags)
    assert status == 0, errors
    assert "train 33, dev 4, test 3 pairs" in errors


def test_columns_in_the_help(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, output, _ = run("train", "translation", "--help")
    assert status == 0
    assert "--task.source_column COLUMN" in output
    assert "--task.train_target FILE" in output
    assert "--task.source_tokens" in output
    assert "--metrics" in output
