"""SEARNN on tasks: whose cost it takes, what is refused before training, what is written down."""

import json

import pytest

from freerun.costs import PythonCost
from freerun.errors import CheckpointError
from freerun.methods import MLE
from freerun.models.settings import RecurrentSettings
from freerun.settings import SettingError
from freerun.study import compare
from freerun.tasks import Digits, load_data
from freerun.training import TrainingSettings
from tests.helpers import raises, searnn
from tests.training.tiny_task import Tiny

TASK = Digits(train_size=40, dev_size=12, test_size=14)
SMALL = {
    "seeds": 1,
    "model": RecurrentSettings(hidden_size=8, embedding_size=4),
    "training": TrainingSettings(updates=4, evaluate_every=2, batch_size=4),
    "quiet": True,
}


class Costly(Tiny):
    cost = "gleu"


def recorded(output, name="searnn"):
    """The settings of a method in results.json and in the record of its run."""
    results = json.loads((output / "results.json").read_text())
    (folder,) = (output / name).iterdir()
    (run,) = json.loads((folder / "freerun.json").read_text())["methods"].values()
    assert run == {"method": "searnn", "settings": results["methods"][name]["settings"]}
    return results["methods"][name]["settings"]


def test_the_cost_is_the_task_s_where_none_is_chosen():
    assert searnn(cells=3).for_task(Costly()) == searnn(cost="gleu", cells=3)
    chosen = searnn(cost="bleu")
    assert chosen.for_task(Costly()) is chosen
    other = MLE()
    assert other.for_task(Costly()) is other


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (searnn(cost="hamming"),
         "method 'searnn': cost=hamming compares equal lengths, but these outputs end in eos, "
         "at any length: use edit_distance"),
        (searnn(cost="hamming", warm_up=0.9),
         "method 'searnn': cost=hamming compares equal lengths, but these outputs end in eos, "
         "at any length: use edit_distance"),
        (searnn(cost=PythonCost(lambda own, true: 0.0)),
         "method 'searnn': SEARNN.reference is None: name the one that matches your cost"),
        (searnn(cost="chunk_f1"),
         "method 'searnn': the symbol ' ' is not an IOB2 tag; chunks need tags such as 'O', "
         "'B-PER' and 'I-PER'"),
    ],
)  # fmt: skip
def test_what_does_not_suit_a_task_is_refused_before_training(method, message, tmp_path):
    with raises(SettingError, message):
        compare(TASK, {"searnn": method}, output=tmp_path / "out", **SMALL)
    assert not list(tmp_path.glob("**/freerun.json"))


def test_a_comparison_with_the_cost_of_the_task(tmp_path):
    output = tmp_path / "out"
    methods = ["mle", "searnn:cell_loss=ll,token_choice=top_k,tokens=3"]
    found = compare(TASK, methods, output=output, **SMALL)
    settings = found.results["methods"][methods[1]]["settings"]
    assert settings["cost"] == "edit_distance"
    assert (settings["cell_loss"], settings["tokens"]) == ("ll", 3)
    loss = found.results["methods"][methods[1]]["learning_curves"][0][0]["loss"]
    assert loss != found.results["methods"]["mle"]["learning_curves"][0][0]["loss"]


def test_a_function_as_cost_is_written_down_by_name_and_found_again(tmp_path):
    output = tmp_path / "out"

    def longer():
        """A new function at every call, as in every process."""

        def length(hypotheses, lengths, references, reference_lengths):
            return (lengths - reference_lengths).abs().double()

        return searnn(cost=length, reference="copy")

    first = compare(TASK, {"searnn": longer()}, output=output, **SMALL)
    name = recorded(output)["cost"]
    assert name.startswith("<function ")
    assert name.endswith("longer.<locals>.length>")
    (model,) = output.glob("searnn/*/model.safetensors")
    before = model.stat().st_mtime_ns
    again = compare(TASK, {"searnn": longer()}, output=output, **SMALL)
    assert model.stat().st_mtime_ns == before
    assert again.results["methods"] == first.results["methods"]


def test_a_cost_in_python_is_written_down_by_name_and_warns_once(tmp_path):
    output = tmp_path / "out"

    def wer(hypothesis, reference):
        return float(hypothesis != reference)

    codec = load_data(TASK).codec

    def given(name=None):
        return searnn(
            cost=PythonCost(wer, on="text", write=lambda ids: codec.write(ids, []), name=name),
            reference="min_edit_distance",
            token_choice="uniform",
            tokens=2,
        )

    with pytest.warns(UserWarning, match="the cost wer is a Python function") as warned:
        compare(TASK, {"searnn": given()}, output=output, **SMALL)
    assert len([w for w in warned if "Python function" in str(w.message)]) == 1
    assert recorded(output)["cost"] == "PythonCost('wer', on='text')"
    with pytest.raises(CheckpointError, match="it holds another comparison"):
        compare(TASK, {"searnn": given("ter")}, output=output, **SMALL)
