"""Outputs that are kept beside a model: what they contain, and when they are read again."""

import json
import shutil

import pytest
from rapidfuzz.distance import Levenshtein

from freerun.errors import CheckpointError
from freerun.evaluation import Decoding, evaluate
from freerun.methods import MLE, BehaviorCloning
from freerun.metrics import count_errors
from freerun.models.settings import RecurrentSettings
from freerun.study import compare, outputs
from freerun.study.outputs import read_outputs
from freerun.tasks import Digits, Spelling, Tagging, load_data
from freerun.training import TrainingSettings, load_policy
from tests.helpers import raises

TRAINING = TrainingSettings(updates=4, evaluate_every=4, batch_size=8, learning_rate=0.02)
SETTINGS = {"seeds": 1, "training": TRAINING, "quiet": True}
MODEL = RecurrentSettings(hidden_size=8, embedding_size=4)
METHODS = {"mle": MLE(), "cloning": BehaviorCloning(noise=0.3)}
SAMPLED = Decoding(sample=True, seed=3)
FILES = ("outputs.jsonl", "decoding.json")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text(" ".join(f"{number:o}" for number in range(2000, 2400)))
    return Spelling(data=str(text), length=6, dev_size=8, test_size=9)


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    output = tmp_path_factory.mktemp("comparison") / "out"
    settings = {**SETTINGS, "model": MODEL, "decoding": SAMPLED}
    return compare(task, METHODS, output=output, **settings).results, output


@pytest.fixture
def again(task, finished, tmp_path):
    """The folder of a copy of the comparison, and a function that starts it again."""
    shutil.copytree(finished[1], tmp_path / "out")

    def start(**changes):
        settings = {**SETTINGS, "model": MODEL, "decoding": SAMPLED, **changes}
        return compare(task, METHODS, output=tmp_path / "out", **settings).results

    return tmp_path / "out", start


@pytest.fixture
def decoded(monkeypatch):
    """The number of calls of decoding, which are counted in a list."""
    calls, decode = [], outputs.decode_examples

    def count(*args, **settings):
        calls.append(settings["decoding"])
        return decode(*args, **settings)

    monkeypatch.setattr(outputs, "decode_examples", count)
    return calls


def test_every_test_example_has_a_line(finished, task):
    _, output = finished
    data = load_data(task)
    folder = output / "mle" / "seed-0"
    rows = read_outputs(folder / "outputs.jsonl")
    policy, codec = load_policy(folder)
    found = evaluate(policy, task, codec, data.test, decoding=SAMPLED)
    assert [row["tokens"] for row in rows] == found.hypotheses
    assert [row["output"] for row in rows] == [codec.text(each) for each in found.hypotheses]
    assert [row["reference"] for row in rows] == list(data.test.texts)
    assert [row["errors"] for row in rows] == [
        Levenshtein.distance(row["output"], row["reference"]) for row in rows
    ]
    assert [len(row["source"]) for row in rows] == [len(text) for text in data.test.texts]
    assert list(rows[0]) == ["source", "reference", "output", "errors", "tokens"]


def test_models_with_a_backspace_have_all_their_actions(finished, task):
    folder = finished[1] / "cloning" / "seed-0"
    policy, codec = load_policy(folder)
    found = evaluate(policy, task, codec, load_data(task, codec).test, decoding=SAMPLED)
    rows = read_outputs(folder / "outputs.jsonl")
    assert [row["actions"] for row in rows] == found.actions
    assert any(codec.target.backspace in row["actions"] for row in rows)


def test_the_same_comparison_does_not_decode_again(finished, again, decoded):
    folder, start = again
    before = {path: path.read_bytes() for path in folder.rglob("outputs.jsonl")}
    results = start()
    assert decoded == []
    assert results["methods"] == finished[0]["methods"]
    # Sampled outputs do not consist of the best tokens.
    assert {entry["error_after_reference"] for entry in results["methods"].values()} == {None}
    assert {path: path.read_bytes() for path in folder.rglob("outputs.jsonl")} == before


def test_outputs_of_beam_search_have_their_own_files(task, tmp_path, decoded, monkeypatch):
    settings = {**SETTINGS, "model": MODEL, "output": tmp_path / "out", "beam": 2}
    first = compare(task, ["mle"], **settings).results
    assert decoded == [Decoding(), Decoding(beam=2)]
    assert first["methods"]["mle"]["error_after_reference"]["values"]
    folder = tmp_path / "out" / "mle" / "seed-0"
    policy, codec = load_policy(folder)
    found = evaluate(policy, task, codec, load_data(task).test, decoding=Decoding(beam=2))
    rows = read_outputs(folder / "beam_outputs.jsonl")
    assert [row["tokens"] for row in rows] == found.hypotheses
    decoded.clear()
    monkeypatch.setattr(outputs, "find_reference_errors", None)
    assert compare(task, ["mle"], **settings).results["methods"] == first["methods"]
    assert decoded == []


def break_outputs(folder):
    path = folder / "outputs.jsonl"
    path.write_text(path.read_text().replace('"tokens": [', '"tokens": [0, ', 1))


def shorten_outputs(folder):
    path = folder / "outputs.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


def drop_outputs(folder):
    (folder / "outputs.jsonl").unlink()


def drop_decoding(folder):
    (folder / "decoding.json").unlink()


def break_decoding(folder):
    (folder / "decoding.json").write_text('{"model": ')


def swap_models(folder):
    path = folder / "decoding.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model": "0" * 64}))


def change_version(folder):
    path = folder / "decoding.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "freerun": "0.0.1"}))


def change_control(folder):
    path = folder / "decoding.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "error_after_reference": [0.5]}))


@pytest.mark.parametrize(
    "damage",
    [break_outputs, shorten_outputs, drop_outputs, drop_decoding, break_decoding, swap_models,
     change_version, change_control],
)  # fmt: skip
def test_outputs_that_are_damaged_or_not_of_this_model_are_decoded_again(
    finished, again, decoded, damage
):
    folder, start = again
    run = folder / "mle" / "seed-0"
    before = {name: (run / name).read_bytes() for name in FILES}
    damage(run)
    results = start()
    assert decoded == [SAMPLED]
    assert {name: (run / name).read_bytes() for name in FILES} == before
    assert results["methods"]["mle"] == finished[0]["methods"]["mle"]


def test_another_decoding_replaces_the_outputs(again, decoded):
    folder, start = again
    before = (folder / "mle" / "seed-0" / "outputs.jsonl").read_bytes()
    start(decoding=Decoding(sample=True, seed=4))
    assert len(decoded) == 2
    assert (folder / "mle" / "seed-0" / "outputs.jsonl").read_bytes() != before
    start()
    assert len(decoded) == 4
    assert (folder / "mle" / "seed-0" / "outputs.jsonl").read_bytes() == before


def test_a_model_without_digests_is_always_decoded(again, decoded):
    folder, start = again
    (folder / "mle" / "seed-0" / "SHA256SUMS").unlink()
    start()
    assert decoded == [SAMPLED]


def test_sources_that_are_no_text_are_null(tmp_path):
    task = Digits(train_size=40, dev_size=4, test_size=5)
    compare(task, ["mle"], output=tmp_path / "out", model=MODEL, **SETTINGS)
    rows = read_outputs(tmp_path / "out" / "mle" / "seed-0" / "outputs.jsonl")
    assert [row["source"] for row in rows] == [None] * 5
    assert all(row["reference"] for row in rows)


def test_errors_of_outputs_of_fixed_length_are_wrong_cells(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / split).write_text("a O\nb B-X\nc I-X\n\n")
    files = {split: str(tmp_path / split) for split in ("train", "dev", "test")}
    data = load_data(Tagging(**files))
    codes = {tag: i for i, tag in enumerate(data.codec.target.symbols)}
    shifted = [codes["B-X"], codes["I-X"], codes["I-X"]]  # two cells, and one edit less
    assert count_errors(data.codec, [shifted], data.test) == [2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "line 1 is []; it must be an object"),
        ('{"reference": "a"}', "line 1: output is null; it must be text"),
        ('{"source": 1}', "line 1: source is 1; it must be text or null"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    path = tmp_path / "outputs.jsonl"
    path.write_text(line + "\n")
    with raises(CheckpointError, f"{path}, {message}"):
        read_outputs(path)


def test_outputs_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"outputs\.jsonl: cannot be read"):
        read_outputs(tmp_path / "outputs.jsonl")
