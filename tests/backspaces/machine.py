"""Sequences of actions in plain Python, one action at a time: what the tensors must agree with."""

from hypothesis import strategies as st

BACKSPACE, EOS, LETTERS = 4, 3, 3
"""The actions of the tests: three letters, eos, backspace."""
PAD, BOS = -5, -6


class Machine:
    """What stands while actions are carried out.

    `written` are all tokens ever typed, bos first, with the number of the one that each continues;
    `stack` are the numbers of those that stand.
    """

    def __init__(self):
        self.written, self.stack = [(BOS, -1)], [0]

    def act(self, action):
        """Carry out an action; the number of the token withdrawn, where one is."""
        if action != BACKSPACE:
            self.written.append((action, self.stack[-1]))
            self.stack.append(len(self.written) - 1)
        elif len(self.stack) > 1:
            return self.stack.pop()
        return None

    @property
    def text(self):
        """What stands, bos left out."""
        return [self.written[number][0] for number in self.stack[1:]]


def run(actions):
    """The machine after `actions`, and what was on top before each of them and after all."""
    machine, tops = Machine(), [0]
    for action in actions:
        machine.act(action)
        tops.append(machine.stack[-1])
    return machine, tops


def withdrawn_of(actions):
    """For each action, whether it is a token that is withdrawn later."""
    machine, when, found = Machine(), {}, [False] * len(actions)
    for i, action in enumerate(actions):
        gone = machine.act(action)
        if gone is not None:
            found[when[gone]] = True
        elif action != BACKSPACE:
            when[machine.stack[-1]] = i
    return found


def usage_of(actions, reference):
    """(actions, backspaces, withdrawals, replaced, rewritten, right), place by place."""
    machine = Machine()
    gone = {}  # by place: the token that was withdrawn there and that none has replaced yet
    counts = [len(actions), actions.count(BACKSPACE), 0, 0, 0, 0]
    for action in actions:
        number = machine.act(action)
        place = len(machine.text)
        if number is not None:
            counts[2] += 1
            gone[place] = machine.written[number][0]
        elif action != BACKSPACE and place - 1 in gone:
            old = gone.pop(place - 1)
            counts[3] += 1
            if old != action:
                counts[4] += 1
                counts[5] += place <= len(reference) and reference[place - 1] == action
    return counts


letters = st.integers(0, LETTERS - 1)
actions = st.lists(st.one_of(letters, st.just(BACKSPACE)), max_size=12)
"""Any writing and withdrawing."""
sequences = st.builds(lambda body, end: body + [EOS] * end, actions, st.booleans())
"""Those that may end in eos."""
batches = st.lists(sequences, min_size=1, max_size=4)
