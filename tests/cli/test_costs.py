"""`freerun costs`: cost vectors of trained models, and error messages."""

import re
import sys

import pytest

from freerun.methods import Clock
from freerun.report.cost_vectors import cost_vectors
from freerun.tasks import Digits, load_data
from freerun.training import load_policy
from tests.cli.tiny import MODEL, TRAINING
from tests.helpers import searnn

CHECKPOINT = "the folder of a trained model, trained by any method"


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    """A terminal that is wide enough for the words of these tests."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def by_hand(trained):
    """A function that gives the cost vectors of an example of the trained model."""

    def find(number, split="test", seed=0, **settings):
        policy, codec = load_policy(trained)
        examples = getattr(load_data(Digits(train_size=40, dev_size=12, test_size=14)), split)
        method = searnn(cost="edit_distance", **settings)
        batch = examples.batch([number - 1])
        found = method.search(policy, batch, Clock(seed=seed))
        return cost_vectors(found, policy, codec, batch, method)

    return find


def lines(output):
    return [line.rstrip() for line in output.splitlines()]


def test_the_first_test_example_is_the_default(run, trained, by_hand):
    vectors = by_hand(1, roll_in="learned", roll_out="learned")
    status, output, errors = run("costs", trained)
    assert (status, errors) == (0, "")
    printed = lines(output)
    assert printed[:6] == [
        "digits, test, example 1 of 14",
        f"target   {vectors.target}",
        f"roll-in  {vectors.roll_in}".rstrip(),
        "cost     edit distance",
        "search   roll-in learned, roll-out learned",
        "",
    ]
    cells = len(vectors.cells)
    assert printed[6].split() == ["cell", *map(str, range(1, cells + 1))]
    assert [line.split()[0] for line in printed[9:42]] == [name for name, _ in vectors.rows()]
    squares = [re.findall(r"\d?\.\d+", line.split(maxsplit=1)[1]) for line in printed[9:42]]
    assert {len(row) for row in squares} == {cells}
    for (_, row), shown in zip(vectors.rows(), squares, strict=True):
        assert [float(cost) for cost in shown] == pytest.approx(
            [trial.cost for trial in row], abs=0.051
        )
    assert printed[43].startswith("* cheapest of its cell")
    assert printed[45].split() == ["cell", "cheapest", "policy's", "choice", "dearest"]
    assert len(printed) == 45 + 2 + cells + 1


def test_one_cell_of_a_dev_example(run, trained, by_hand):
    vectors = by_hand(12, "dev", roll_in="learned", roll_out="learned")
    words = ["--split", "dev", "--example", "12", "--cell", "2"]
    status, output, _ = run("costs", trained, *words)
    assert status == 0
    printed = lines(output)
    assert printed[0] == "digits, dev, example 12 of 12"
    assert printed[6].startswith(f"cell 2: the roll-in wrote {vectors.cells[1].written}; ")
    assert len(printed[10:-1]) == len(vectors.cells[1].trials) == 33
    outputs = {line.split()[0]: line.split(maxsplit=3)[-1] for line in printed[10:-1]}
    best = vectors.cells[1].cheapest
    assert best.output in outputs[best.symbol]


def test_the_search_and_its_seed_can_be_chosen(run, trained, by_hand):
    spec = "searnn:roll_in=mixed,roll_out=mixed,token_choice=policy,tokens=3"
    seen = set()
    for seed in (0, 1, 2, 3):
        settings = {"roll_in": "mixed", "roll_out": "mixed", "token_choice": "policy", "tokens": 3}
        vectors = by_hand(2, seed=seed, **settings)
        status, output, _ = run(
            "costs", trained, "--example", 2, "--method", spec, "--seed", seed, "--cell", 1
        )
        assert status == 0
        printed = lines(output)
        assert printed[4] == "search   roll-in mixed, roll-out mixed, 3 tokens a cell (policy)"
        tokens = [line.split()[0] for line in printed[10:-1]]
        ranked = sorted(vectors.cells[0].trials, key=lambda t: (t.cost, -t.probability))
        assert tokens == [trial.symbol for trial in ranked]
        seen.add(output)
    assert len(seen) > 1, "no coin or sample was drawn by the seed"


def test_a_picture_is_drawn_as_well(run, trained, tmp_path):
    path = tmp_path / "costs.png"
    expected = run("costs", trained)
    assert run("costs", trained, "--png", path) == expected
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert list(tmp_path.iterdir()) == [path]


def test_only_pictures_need_matplotlib(run, refuses, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("costs", trained)[0] == 0
    refuses(
        "freerun costs: drawing plots needs matplotlib, which is missing: pip install "
        "'freerun[plots]'",
        *("costs", trained, "--png", tmp_path / "costs.png"),
    )


def test_an_example_of_a_new_file(run, speller, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("five boxing wizards jump quickly")
    status, output, errors = run("costs", speller, "--data", path, "--example", "2")
    assert (status, errors) == (0, "")
    assert output.startswith(f"spelling, {path}, example 2 of 4\nsource   ")
    assert "\ntarget   g wizards␣\n" in re.sub(" +\n", "\n", output)


def test_costs_of_tags(run, tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("".join(f"w{i} O\nBerlin B-LOC\n\n" for i in range(20)))
    output = tmp_path / "model"
    words = ["--task.train", path, "--task.test", path, "--output", output, *MODEL, *TRAINING]
    status, _, errors = run("train", "tagging", *words, "--method", "searnn:roll_out=reference")
    assert status == 0, errors
    status, shown, _ = run("costs", output, "--method", "searnn:roll_out=reference")
    assert status == 0
    printed = lines(shown)
    assert printed[1:5] == [
        "source   w0 berlin",
        "target   O B-LOC",
        printed[3],
        "cost     1 − chunk F1",
    ]
    # Reference roll-outs of the right tags make no mistake, and of wrong ones the least.
    right = [line.split()[0] for line in printed if ".00*" in line.replace("›", "")]
    assert "O" in right


def test_only_the_best_tokens_of_a_large_vocabulary_are_tried(run, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"quelle{i} und so\tword{i} and so on\n" for i in range(150)))
    output = tmp_path / "model"
    words = ["--data", path, "--output", output, *MODEL, *TRAINING]
    status, _, errors = run("train", "translation", *words)
    assert status == 0, errors
    status, shown, _ = run("costs", output, "--split", "test")
    assert status == 0
    printed = lines(shown)
    assert printed[5] == "search   roll-in learned, roll-out learned, 25 tokens a cell (top k)"
    assert "rows: the tokens of a cell, the cheapest first" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"CHECKPOINT is missing: {CHECKPOINT}"),
        (["nowhere"], "nowhere: there is no such directory"),
        (["{trained}", "--seed", "-5"], "options: seed is -5; it must be in [0, 2^32)"),
        (["{trained}", "--example", "0"], "--example is 0; test has 1 to 14"),
        (["{trained}", "--example", "13", "--split", "dev"], "--example is 13; dev has 1 to 12"),
        (["{trained}", "--method", "mle"], "--method is 'mle'; only searnn searches for costs"),
        (["{trained}", "--method", "serann"], "unknown method 'serann'; did you mean 'searnn'?"),
        (["{trained}", "--method", "searnn:focus=2"], "method 'searnn:focus=2': focus has no "
         "effect on roll_out=mixed; it needs roll_out=focused"),
        (["{trained}", "--method", "searnn:cost=hamming"], "--method is 'searnn:cost=hamming': "
         "cost=hamming compares equal lengths, but these outputs end in eos, at any length: use "
         "edit_distance"),
        (["{trained}", "--cell", "0", "--method", "searnn:roll_in=reference,cells=2"],
         "--cell is 0; the cells that were searched are 3, 10"),
        (["{trained}", "--data", "nowhere"], "nowhere: there is no such file"),
        (["{trained}", "--png", "no/costs.png"], "--png is 'no/costs.png'; there is no folder no"),
    ],
)  # fmt: skip
def test_errors(refuses, trained, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    words = [word.format(trained=trained) for word in words]
    refuses(f"freerun costs: {message}", "costs", *words)


def test_a_wrong_cell_leaves_no_picture(run, trained, tmp_path):
    path = tmp_path / "costs.png"
    assert run("costs", trained, "--cell", "99", "--png", path)[0] == 2
    assert list(tmp_path.iterdir()) == []
