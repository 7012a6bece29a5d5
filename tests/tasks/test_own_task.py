"""Tasks of a user's own, by their address."""

import pytest

from freerun.data import DataError
from freerun.settings import SettingError
from freerun.tasks import Digits, Pairs, Spelling, find_task, get_task_name, load_data
from tests.helpers import raises

SOURCE = """\
from dataclasses import dataclass
from freerun.tasks import Digits, Task

@dataclass(frozen=True)
class Dates(Digits):
    noise: float = 0.1

@dataclass(frozen=True)
class Half(Task):
    pass

@dataclass(frozen=True)
class Rows(Task):
    metrics = ("exact_match",)

    def rows(self):
        return {"train": [], "dev": [], "test": []}

class Loose(Task):
    pass

def number():
    return 3
"""


@pytest.fixture
def own(here):
    """A file of one's own tasks, in the current folder."""
    (here / "mine.py").write_text(SOURCE)
    return "mine.py"


def test_a_task_is_found_by_name_or_address(own):
    assert find_task("spelling") is Spelling
    found = find_task(f"{own}:Dates")
    assert found().noise == 0.1
    assert find_task(get_task_name(found)) is found
    assert get_task_name(Spelling) == "spelling"
    assert get_task_name(Digits) == "digits"


def test_a_subclass_of_a_script_is_not_taken_for_its_base():
    class Mine(Digits):
        name = "digits"

    name = get_task_name(Mine)
    assert name.endswith(".Mine")
    with pytest.raises(SettingError):
        find_task(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speling", "unknown task 'speling'; did you mean 'spelling'?"),
        ("mine.py:Date", "task 'mine.py:Date': there is no Date in mine.py; did you mean 'Dates'?"),
        ("mine.py:number", "task 'mine.py:number': it is not a subclass of freerun.tasks.Task"),
        ("mine.py", "unknown task 'mine.py'; name its object, as in mine.py:MyTask"),
        (
            "my/words.tsv.gz",
            "unknown task 'my/words.tsv.gz'; to train on this file: pairs --data my/words.tsv.gz",
        ),
        (
            "my words.TSV",
            "unknown task 'my words.TSV'; to train on this file: pairs --data 'my words.TSV'",
        ),
        ("mine.py:Half", "task 'mine.py:Half': its class must define metrics, rows"),
        (
            "mine.py:Loose",
            "task 'mine.py:Loose': it is not a dataclass, whose fields are its settings",
        ),
    ],
)
def test_what_is_no_task_is_refused(own, name, message):
    with raises(SettingError, message):
        find_task(name)


@pytest.mark.parametrize("value", ["exact_match", ()])
@pytest.mark.parametrize("base", [Digits, Pairs])
def test_metrics_that_are_no_tuple_are_refused(base, value):
    class Bare(base):
        metrics = value

    message = f"Bare.metrics is {value!r}; it must be a tuple of names, such as ('exact_match',)"
    task = Bare("rows.jsonl") if base is Pairs else Bare()
    with raises(SettingError, message):
        task.get_metrics()


def test_rows_that_are_no_splits_are_refused(own):
    message = (
        "the task rows: rows returned a dict; it must return freerun.data.Splits, as in "
        'Splits({"train": …, "dev": …, "test": …})'
    )
    with raises(DataError, message):
        load_data(find_task(f"{own}:Rows")())
