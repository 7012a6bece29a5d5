"""Cost vectors of figures chosen by hand."""

from freerun.report.cost_vectors import CellCosts, CostVectors, TriedToken


def trial(symbol, cost, probability, output, *, at=0, chosen=False, written=False):
    """A trial whose token is the character `at` of its output; of eos, nothing is seen."""
    tried = "" if symbol == "eos" else output[at]
    parts = (output[:at], tried, output[at + len(tried) :])
    return TriedToken(symbol, cost, probability, *parts, chosen=chosen, written=written)


def no():
    """The word "no", where the policy wrote "on" and would have chosen eos after "o"."""
    first = CellCosts(1, "o", "n", (
        trial("n", 0.0, 0.25, "no"),
        trial("o", 1.0, 0.5, "on", chosen=True, written=True),
        trial("eos", 1.0, 0.25, ""),
    ))  # fmt: skip
    second = CellCosts(2, "n", "o", (
        trial("n", 1.0, 0.25, "on", at=1, written=True),
        trial("o", 0.5, 0.125, "oo", at=1),
        trial("eos", 0.5, 0.625, "o", at=1, chosen=True),
    ))  # fmt: skip
    third = CellCosts(3, "eos", None, (
        trial("n", 1.5, 0.0, "onn", at=2),
        trial("o", 0.5, 0.0, "ono", at=2),
        trial("eos", 1.0, 1.0, "on", at=2, chosen=True, written=True),
    ))  # fmt: skip
    return CostVectors(
        "toy, test, example 1 of 3", "edit distance", "roll-in reference, roll-out learned",
        None, "no", "on", (first, second, third), grid=True,
    )  # fmt: skip


def ranked():
    """Of a large vocabulary, two tokens and one; one word is long."""
    first = CellCosts(1, "incomprehensibilities", "a$b$c", (
        TriedToken("a$b$c", 0.25, 0.25, "", "a$b$c", " it", chosen=False, written=False),
        TriedToken("incomprehensibilities", 12.0, 0.5, "", "incomprehensibilities", " all the way",
              chosen=True, written=True),
    ))  # fmt: skip
    second = CellCosts(3, "￭!", "￭?", (
        TriedToken("￭?", 3.0, 0.25, "a", "?", "", chosen=False, written=False),
    ))  # fmt: skip
    return CostVectors(
        "words", "1 − BLEU", "roll-in learned", "quoi $x$", "a$b$c it?", "incomprehensibilities!",
        (first, second), grid=False,
    )  # fmt: skip


def wide(cells, letters):
    """As many cells, whose outputs have so many letters."""
    output = "x" * letters
    return CostVectors("wide", "cost", "search", None, output, output, tuple(
        CellCosts(i + 1, "x", "x", (trial("x", 0.0, 1.0, output, at=i % letters, chosen=True),))
        for i in range(cells)
    ), grid=True)  # fmt: skip
