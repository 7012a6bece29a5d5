"""A disk that is full, as far as this process can tell."""

import resource
from contextlib import contextmanager

FULL = (
    "cannot be written (File too large); is the disk full? Models that were saved are intact: run "
    "the same command again"
)


@contextmanager
def full(limit=100):
    """No file may be longer than `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
