"""Access to the Hugging Face hub, without waiting for a host that does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from huggingface_hub import constants
from huggingface_hub.utils import get_session

_SECONDS_TO_ASK = 5.0
"""The number of seconds to wait for the first answer of the hub."""


@lru_cache(maxsize=1)
def can_reach_hub() -> bool:
    """Return whether the hub answers at all; the libraries would ask six times, for 25 seconds."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ASK)
    except Exception:  # of the library for HTTP, which depends on the release
        return False
    return True


@contextmanager
def use_cache_only() -> Iterator[None]:
    """Use only the local cache of the hub inside the block."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
