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


def name(settings):
    return "-".join(str(value) for value in settings.values())


def policy_of(turn, **settings):
    """Policy number `turn`; kinds of sources and eos take turns."""
    kind = KINDS[turn]
    eos = kind.get("attention") != "aligned" and turn % 2 == 0
    return tiny_policy(eos=eos, source=list(SOURCES)[turn % 3], seed=turn, **kind, **settings)
