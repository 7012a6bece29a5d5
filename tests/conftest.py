"""What holds for every test."""

import jaxtyping
import pytest
import torch
from hypothesis import settings
from transformers.utils import logging

pytest.register_assert_rewrite("tests.helpers", "tests.twins", "freerun.testing")

# The same examples in every run; the first of them compile and import, which takes long.
settings.register_profile("freerun", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("freerun")

# Tests are small, and run side by side.
torch.set_num_threads(1)
logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def seeded():
    """The same dropout and initial weights in every run."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked(monkeypatch):
    """Types go unchecked, as they do for users, so that the code's own checks come to bear."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
