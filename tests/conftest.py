"""What holds for every test, and files to read, made on the spot."""

import gzip
import os
import sys
import zlib
from importlib import import_module
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

from tests.checked import counts, jaxtyped

jaxtyping.jaxtyped = jaxtyped
pytest.register_assert_rewrite("tests.helpers", "tests.twins", "freerun.testing")

# The same examples in every run; the first of them compile and import, which takes long.
settings.register_profile("freerun", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("freerun")

# Tests, and the processes that they start, neither read nor fill the user's cache.
os.environ["FREERUN_CACHE"] = "off"

LIBRARIES = ("beartype", "click", "docstring_parser", "rapidfuzz.distance", "rich.progress")


def pytest_collection():
    """Import libraries before freerun; with -n, only in the processes that run tests.

    While jaxtyping executes a module of freerun, Python looks for its bytecode under another name,
    and all that this module is the first to import is compiled anew. That takes five seconds.
    """
    for name in LIBRARIES:
        import_module(name)
    for name in ("PreTrainedModel", "PreTrainedTokenizerFast", "Trainer"):
        getattr(import_module("transformers"), name)  # is imported when it is asked for
    import_module("transformers.utils.logging").disable_progress_bar()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Of the cases of a test that is marked `sample(count)`, so many are not slow.

    They are chosen by their names, so that new cases change little; a case that is named on the
    command line is run.
    """
    if any("[" in word for word in config.args):
        return
    groups = {}
    for item in items:
        if item.get_closest_marker("sample"):
            groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in groups.values():
        (count,) = cases[0].get_closest_marker("sample").args
        for item in sorted(cases, key=lambda item: zlib.crc32(item.nodeid.encode()))[count:]:
            item.add_marker(pytest.mark.slow)


def pytest_runtest_setup():
    """Check types of the first calls in every test."""
    counts.clear()


@pytest.fixture(autouse=True)
def seeded():
    """The same dropout and initial weights in every run, on one thread: tests run side by side."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def registered_metrics():
    """A test's own metrics, which are registered when they are first used, are gone after it."""
    from freerun.metrics import METRICS

    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.fixture
def unchecked(monkeypatch):
    """Types go unchecked, as they do for users, so that the code's own checks come to bear."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def write(tmp_path):
    """A function that writes text or bytes to a new file and returns its path."""

    def writer(contents, name="data.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = contents if isinstance(contents, bytes) else contents.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return str(path)

    return writer


@pytest.fixture
def refuses():
    """A function that checks the exact message of the DataError that another raises."""

    from freerun.data import DataError

    def check(message, call, *arguments, **settings):
        with pytest.raises(DataError) as caught:
            call(*arguments, **settings)
        assert str(caught.value) == message

    return check


@pytest.fixture
def given():
    """A function that makes examples of references."""

    from freerun.data.store import Ragged, StoredExamples

    def examples(*references):
        rows = Ragged.from_rows(references, 0)
        return StoredExamples(rows, rows, eos=False)

    return examples


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, which is empty; what is imported from it does not stay imported."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if str(tmp_path) in f"{spec}":  # its origin, or where to look for submodules
            del sys.modules[name]


@pytest.fixture
def missing(monkeypatch):
    """A function that makes a library look as if it were not installed."""

    def hide(library):
        for name in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def real():
    """A function that returns the path of a real file, or skips the test where it is not there."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("FREERUN_DATA", default))

    def find(name):
        if not (root / name).exists():
            pytest.skip(f"{root / name} is not there; set FREERUN_DATA to the folder of real data")
        return str(root / name)

    return find


@pytest.fixture
def local_datasets(tmp_path, monkeypatch):
    """The `datasets` library without network, with its cache in a folder of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return datasets


@pytest.fixture
def keep_checkpoints():
    """Finished runs keep their checkpoints, so that they can be made unfinished."""
    from tests.helpers import keeping_checkpoints  # after its asserts are rewritten

    with keeping_checkpoints():
        yield
