"""`freerun methods`: what there is to train by."""

from __future__ import annotations

from freerun.cli.listing import brief, console, full
from freerun.cli.options import UsageError
from freerun.methods import METHODS
from freerun.settings import SettingError, did_you_mean

HELP = """\
Usage: freerun methods [METHOD]

List the training methods; with METHOD, describe one and its settings.

On the command line, settings follow a method after a colon, separated by commas:
  freerun train digits --method scheduled_sampling:schedule=linear,k=0.9 --output runs/ss"""


def run(words: list[str]) -> None:
    """Run the command."""
    if {"-h", "--help"} & set(words):
        print(HELP)
        return
    if len(words) > 1:
        raise UsageError(f"{words[1]!r} is not expected here; see freerun methods --help")
    if not words:
        for name, method in METHODS.items():
            console().print(brief(name, [method.summary, method.paper], method), "")
        console().print("More on one of them:  freerun methods METHOD")
        return
    (name,) = words
    if name not in METHODS:
        raise SettingError(f"unknown method {name!r}{did_you_mean(name, METHODS)}")
    method = METHODS[name]
    console().print(full(name, [method.summary, method.paper], method))
