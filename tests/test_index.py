"""The index of defects, at the head of the tests, names tests that exist."""

import re
from pathlib import Path

import tests


def test_every_test_of_the_index_exists():
    folder = Path(tests.__file__).parent
    named = re.findall(r"(\S+\.py)::(\w+)", tests.__doc__)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (folder / file).read_text(), f"{file}::{test}"
