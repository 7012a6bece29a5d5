"""Every kind of recurrent policy."""

from tests.helpers import SOURCES, tiny_policy

LOOKS = [
    {},
    {"attention": "general"},
    {"attention": "additive"},
    {"attention": "aligned"},
    {"attention": "general", "input_feeding": True},
    {"attention": "additive", "input_feeding": True},
    {"attention": "aligned", "input_feeding": True},
]
KINDS = [
    {"cell": cell, "layers": layers, "bidirectional": both, **look}
    for cell in ("gru", "lstm")
    for layers in (1, 2)
    for both in (False, True)
    for look in LOOKS
]


def name(kind):
    """What a kind is called in the report of a test run."""
    words = [kind["cell"], str(kind["layers"]), "two-way" if kind["bidirectional"] else "one-way"]
    words += [kind["attention"]] if "attention" in kind else []
    return "-".join(words + (["fed"] if "input_feeding" in kind else []))


def policy_of(turn, **settings):
    """Policy number `turn`; kinds of sources and eos take turns."""
    kind = KINDS[turn]
    eos = kind.get("attention") != "aligned" and turn % 2 == 0
    return tiny_policy(eos=eos, source=list(SOURCES)[turn % 3], seed=turn, **kind, **settings)
