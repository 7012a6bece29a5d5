"""Check types and shapes as jaxtyping does, each argument once.

`jaxtyping.jaxtyped` binds and checks arguments before a call and once more with what it returns, to
word its errors better. That took 40 % of the time of many tests. So did checks of functions that
loops call thousands of times, so only the first calls of a function in a test are checked.
"""

import dataclasses
import inspect
import os
from functools import partial, wraps
from typing import Any, get_type_hints

import jaxtyping

original = jaxtyping.jaxtyped
together = original("context")  # in which a name of a dimension is one size

CALLS = int(os.environ.get("FREERUN_CHECKED_CALLS", "5"))
"""The number of calls of each function that are checked in a test; at night, nearly all are."""
counts: dict[Any, int] = {}
"""The number of calls of each function in this test."""


def jaxtyped(checked=None, *, typechecker):
    """Decorate a function, or the dataclass whose `__init__` is checked; as jaxtyping's does."""
    if checked is None:
        return partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(checked):
        own = vars(checked).get("__init__")
        if dataclasses.is_dataclass(checked) and not hasattr(own, "__wrapped__"):
            checked.__init__ = jaxtyped(checked.__init__, typechecker=typechecker)
        return checked
    # Dimensions such as "{width}" are those that arguments name.
    sizes = any("{" in f"{hint}" for hint in getattr(checked, "__annotations__", {}).values())
    if not inspect.isfunction(checked) or inspect.isgeneratorfunction(checked) or sizes:
        return original(checked, typechecker=typechecker)
    hints = {
        name: resolve(hint, checked.__globals__) for name, hint in checked.__annotations__.items()
    }
    before, checked.__annotations__ = checked.__annotations__, hints
    inner = typechecker(checked)
    checked.__annotations__ = before

    @wraps(checked)
    def call(*args, **kwargs):
        count = counts[checked] = counts.get(checked, 0) + 1
        if count > CALLS or jaxtyping.config.jaxtyping_disable:
            return checked(*args, **kwargs)
        with together:
            return inner(*args, **kwargs)

    # In tracebacks, it is part of a library, and not code of a user.
    call.__code__ = call.__code__.replace(co_filename=jaxtyping.__file__)
    return call


def resolve(hint, scope):
    """Return the type that a hint names; Any where it names what only type checkers import."""

    def holder(value):
        """Has the hint."""

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, scope, include_extras=True)["value"]
    except Exception:
        return Any
