"""Chat templates, applied with a limit of time and size."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateError

from freerun.data.rows import Message, Row
from freerun.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 5.0
"""The maximum number of seconds that a template may take for a conversation."""
_ERRORS = (
    TemplateError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Exceptions of a template that does not support a conversation."""
CHARACTERS = 10_000_000
"""The maximum number of characters of a conversation."""
MEMORY = 1 << 28
"""The maximum number of bytes of memory that a template may take, where that can be limited."""


def apply_template(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], settings: Row, where: str
) -> str:
    """Return the text of a conversation by the chat template of a tokenizer.

    A template is a program that comes with a model. It runs in a sandbox, and is stopped if it
    takes too long.

    Args:
        tokenizer: the tokenizer.
        turns: the messages.
        settings: other arguments of the template.
        where: the name of the conversation in messages.

    Raises:
        DataError: if there is no template, it fails, takes too long or writes too much.
    """
    if not tokenizer.chat_template:
        raise DataError(
            f"{where}: messages need a chat template, which the tokenizer does not have; set "
            "tokenizer.chat_template, or give text"
        )
    try:
        with _limit_time(SECONDS), _limit_memory(MEMORY):
            text = cast(str, tokenizer.apply_chat_template(list(turns), tokenize=False, **settings))
    except _TooLongError:
        raise DataError(f"{where}: the chat template takes over {SECONDS:.0f} seconds") from None
    except (MemoryError, OverflowError):
        raise DataError(f"{where}: the chat template needs too much memory") from None
    except _ERRORS as e:
        raise DataError(f"{where}: the chat template refuses it ({e})") from None
    if len(text) > CHARACTERS:
        raise DataError(
            f"{where}: the chat template writes {len(text)} characters; the limit is {CHARACTERS}"
        )
    return text


class _TooLongError(BaseException):
    """Raised inside a template, which cannot catch it."""


@contextmanager
def _limit_memory(size: int) -> Iterator[None]:
    """Let the process take so many more bytes inside the block, where Linux can limit it.

    One product in a template, such as 'a' * 10**9, takes as much as it likes, and no time.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().partition(" ")[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        limit = pages * resource.getpagesize() + size
        bounds = [limit, *(bound for bound in before if bound != resource.RLIM_INFINITY)]
        resource.setrlimit(resource.RLIMIT_AS, (min(bounds), before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _limit_time(seconds: float) -> Iterator[None]:
    """Stop the Python code in the block after this number of seconds.

    This is the only way to stop a template in any thread, because it may loop without writing
    anything. An existing trace function, such as a debugger's, is not replaced.
    """
    if sys.gettrace() is not None:
        yield
        return
    end = monotonic() + seconds

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        # Compiled templates have no file. Only their lines are traced, because they contain the
        # loops.
        if monotonic() > end:
            raise _TooLongError
        return trace if frame.f_code.co_filename.startswith("<") else None

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
