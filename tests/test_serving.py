"""What docs/serving.md says: a service, and the graph of a model without torch."""

import importlib
import sys

import pytest

import freerun
from freerun import MLE, TrainingSettings, fit
from freerun.models.settings import RecurrentSettings
from freerun.tasks import Spelling
from tests.pages import ROOT

TEXTS = ["thw house", "in rhe sea", "a"]
SETTINGS = TrainingSettings(updates=30, evaluate_every=30, learning_rate=0.02)


@pytest.fixture(scope="module")
def data():
    task = Spelling(train_size=200, dev_size=4, test_size=4)
    return task, task.load()


@pytest.fixture
def train(data, tmp_path):
    """A function that trains a small model, and returns its folder."""

    def run(**settings):
        model = RecurrentSettings(hidden_size=12, embedding_size=8, **settings)
        output = tmp_path / "run"
        fit(*data, MLE(), model=model, training=SETTINGS, output=output, quiet=True)
        return output

    return run


@pytest.fixture
def script(monkeypatch):
    """A function that imports a script of examples/, anew."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def find(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return find


def test_a_service_answers_as_the_model_does(train, script, monkeypatch):
    pytest.importorskip("fastapi", reason="pip install fastapi httpx")
    pytest.importorskip("httpx", reason="pip install fastapi httpx")
    from fastapi.testclient import TestClient

    folder = train(attention="general")
    monkeypatch.setenv("MODEL", str(folder))
    client = TestClient(script("service").app)
    answer = client.post("/predict", json={"texts": TEXTS})
    assert answer.status_code == 200
    assert answer.json() == [found.text for found in freerun.load(folder).predict(TEXTS)]
    wrong = client.post("/predict", json={"texts": ["a", ""]})
    assert (wrong.status_code, wrong.json()["detail"]) == (
        422,
        "the texts, line 2: there is nothing to correct",
    )
    assert client.post("/predict", json={"texts": "a"}).status_code == 422


@pytest.mark.filterwarnings("ignore")  # of the exporter, which traces
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("attention", ["general", "additive"])
def test_the_graph_writes_as_the_model_does(train, script, tmp_path, cell, attention):
    pytest.importorskip("onnx", reason="pip install onnx onnxruntime")
    pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    folder = train(cell=cell, attention=attention, bidirectional=cell == "lstm")
    written = script("export_onnx").main([str(folder), str(tmp_path / "model.onnx"), *TEXTS])
    assert written == [found.text for found in freerun.load(folder).predict(TEXTS)]
    assert len(set(written)) > 1


def test_a_model_that_cannot_be_exported_is_refused(train, script, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime")
    folder = train(attention="general", input_feeding=True)
    message = "^the exporter needs general or additive attention, and no input feeding$"
    with pytest.raises(SystemExit, match=message):
        script("export_onnx").main([str(folder), str(tmp_path / "model.onnx")])
