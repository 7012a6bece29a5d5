"""Planted errors against plain Python, by their statistics, and what they may not depend on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freerun.backspaces import Alternatives, AnyToken, apply_backspaces, insert_noise
from freerun.randomness import uniform
from tests.backspaces.machine import BACKSPACE, EOS, LETTERS, PAD, letters
from tests.backspaces.padding import padded
from tests.helpers import raises

ANY = AnyToken.build(5, [EOS, BACKSPACE])
DIGITS = Alternatives.build({0: [1], 1: [2, 0]}, 5)
"""No mistakes for 2 and eos."""
targets = st.lists(
    st.builds(lambda body, end: body + [EOS] * end, st.lists(letters, max_size=5), st.booleans()),
    min_size=1,
    max_size=3,
)


def plant(rows, wrong, *, junk=PAD, more=0, names=(7, "epoch", 1), ids=None, **settings):
    target, mask = padded(rows, junk, more=more)
    ids = torch.arange(len(rows)) if ids is None else ids
    return insert_noise(
        target, mask, wrong, **settings, backspace=BACKSPACE, pad=PAD, names=names, ids=ids
    )


def wrong_for(token, wrong):
    """The wrong tokens for one, in order."""
    if wrong is ANY:
        return [other for other in range(LETTERS) if other != token]
    return {0: [1], 1: [2, 0]}.get(token, [])


def plain(row, number, wrong, rate, most, names):
    """The actions of one row and which are planted, cell by cell."""
    actions = []
    for cell, token in enumerate(row):
        others = wrong_for(token, wrong)

        def draw(*what, cell=cell):
            named = (*names, "noise", number, cell, *what)
            return float(uniform(*named, dtype=torch.float64))

        if others and draw() < rate:
            run = 1 + int(draw("run") * most)
            actions += [(others[int(draw("token", i) * len(others))], True) for i in range(run)]
            actions += [(BACKSPACE, False)] * run
        actions.append((token, False))
    return actions


def rows_of(found):
    """What was made of every row, as lists."""
    for actions, mask, planted in zip(found.actions, found.mask, found.planted, strict=True):
        length = int(mask.sum())
        assert mask.tolist() == [i < length for i in range(len(mask))]
        assert actions[length:].tolist() == [PAD] * (len(mask) - length)
        assert not planted[length:].any()
        yield list(zip(actions[:length].tolist(), planted[:length].tolist(), strict=True))


@given(
    targets,
    st.sampled_from([ANY, DIGITS]),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.sampled_from([PAD, BACKSPACE, 10**6]),
    st.integers(0, 2),
)
def test_it_is_what_plain_python_makes(rows, wrong, rate, most, first, junk, more):
    ids, names = first + 3 * torch.arange(len(rows)), (first, "update")
    settings = {"rate": rate, "most": most, "names": names}
    found = plant(rows, wrong, ids=ids, junk=junk, more=more, **settings)
    expected = [plain(row, int(ids[i]), wrong, rate, most, names) for i, row in enumerate(rows)]
    assert list(rows_of(found)) == expected
    assert found.actions.shape[1] == max(map(len, expected))
    target, mask = padded(rows, PAD)
    tokens, there = apply_backspaces(found.actions, found.mask, pad=PAD, backspace=BACKSPACE)
    assert torch.equal(there, mask)
    assert torch.equal(tokens, target)


def test_by_hand():
    """At rate 1, before every token, eos too, come one wrong one and a backspace."""
    found = plant([[0, EOS], [EOS]], AnyToken.build(5, [1, 2, EOS, BACKSPACE]), rate=1.0)
    assert found.actions.tolist() == [[0, 0, BACKSPACE, EOS], [0, BACKSPACE, EOS, PAD]]
    assert found.mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    assert found.planted.tolist() == [[False, True, False, False], [True] + [False] * 3]


def test_statistics():
    """Errors come at the rate, runs and wrong tokens uniformly: chi-square at 1 in 10,000."""
    rows = [[0, 1, 2, 0, 1, 2, 0, EOS]] * 2000
    found = plant(rows, ANY, rate=0.25, most=3)
    cells = runs = 0
    lengths, tokens = torch.zeros(3), torch.zeros(2)
    for row in rows_of(found):
        run = []
        for action, planted in row:
            if planted:
                run.append(action)
            elif action != BACKSPACE:
                cells += 1
                runs += bool(run)
                if run:
                    lengths[len(run) - 1] += 1
                    assert action not in run
                if action == 0:
                    for other in run:
                        tokens[other - 1] += 1
                run = []
    assert cells == 16000
    assert abs(runs / cells - 0.25) < 4 * (0.25 * 0.75 / cells) ** 0.5
    assert float(((lengths - runs / 3) ** 2 / (runs / 3)).sum()) < 18.4
    expected = tokens.sum() / 2
    assert float(((tokens - expected) ** 2 / expected).sum()) < 15.1


def test_an_example_meets_the_same_noise_wherever_it_stands():
    rows = [[0, 1, 2, EOS], [2, 1], [1, 1, 1, 0, EOS]]
    ids, settings = torch.tensor([8, 3, 5]), {"rate": 0.6, "most": 2}
    whole = list(rows_of(plant(rows, ANY, ids=ids, more=3, **settings)))
    for i, row in enumerate(rows):
        assert list(rows_of(plant([row], ANY, ids=ids[i : i + 1], **settings))) == [whole[i]]
    other = list(rows_of(plant(rows, ANY, ids=ids, names=(7, "epoch", 2), **settings)))
    assert other != whole


def test_no_rows_and_no_tokens():
    for shape in ((0, 3), (2, 0)):
        target = torch.zeros(shape, dtype=torch.long)
        ids = torch.arange(shape[0])
        found = insert_noise(
            target, target.bool(), ANY, rate=0.5, backspace=BACKSPACE, pad=PAD, names=(), ids=ids
        )
        assert found.actions.shape == found.mask.shape == found.planted.shape == (shape[0], 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": -0.1}, "rate is -0.1; it must lie in [0, 1]"),
        ({"rate": 1.5}, "rate is 1.5; it must lie in [0, 1]"),
        ({"rate": float("nan")}, "rate is nan; it must lie in [0, 1]"),
        ({"rate": 0.1, "most": 0}, "most is 0; it must be at least 1"),
    ],
)
def test_what_is_refused(settings, message):
    with raises(ValueError, message):
        plant([[0]], ANY, **settings)
