"""Format actions: the tokens that were written and withdrawn, and those that replaced them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from rich.text import Text

from freerun.vocabulary import Vocabulary

SegmentKind = Literal["standing", "replacing", "withdrawn", "withdrawing", "idle"]
STYLES: dict[SegmentKind, str] = {
    "standing": "",
    "replacing": "green",
    "withdrawn": "red strike",
    "idle": "red",
}
BACKSPACE_MARK = "<"
_MARKS = re.compile(r"[\\\[\]<]")


@dataclass(frozen=True)
class Segment:
    """Consecutive actions of one kind.

    Attributes:
        kind: `standing` tokens remain; `replacing` tokens remain in place of a withdrawn one;
            `withdrawn` tokens do not remain; `withdrawing` are backspaces that withdraw a token,
            and `idle` backspaces with nothing to withdraw.
        text: the text of the tokens; for backspaces, one `BACKSPACE_MARK` each.
        opens: whether a withdrawn passage begins with this piece.
        closes: whether a withdrawn passage ends with this piece.
    """

    kind: SegmentKind
    text: str
    opens: bool = False
    closes: bool = False


def trace(
    actions: Sequence[int], vocabulary: Vocabulary, text: Callable[[Sequence[int]], str]
) -> list[Segment]:
    """Split the actions of a row into pieces of one kind, up to eos.

    Args:
        actions: tokens and backspaces, in the order in which they were written.
        vocabulary: the vocabulary, which defines eos and the backspace.
        text: converts tokens to text, such as `codec.text`.
    """
    pieces = []
    for kind, group in groupby(_steps(actions, vocabulary), key=lambda step: step.kind):
        same = list(group)
        tokens = [step.token for step in same]
        if kind in ("withdrawing", "idle"):
            said = BACKSPACE_MARK * len(tokens)
        else:
            said = _added_text(same[0].before, tokens, text)
        if kind == "withdrawn" and not said:  # white space at an end, which may have no text
            said = "".join(vocabulary.symbols[token] for token in tokens)
        pieces.append(Segment(kind, said, same[0].opens, same[-1].closes))
    return pieces


def plain(pieces: Sequence[Segment]) -> str:
    r"""Format a trace without colors, as in `12[3<]4`: 3 was withdrawn, and 4 replaced it.

    Brackets contain what did not remain, in the order in which it was written; in them every `<`
    withdraws the last remaining token. Outside of brackets, `<` had nothing to withdraw. If the
    text itself contains these characters, they are escaped by a backslash.
    """
    shown = []
    for piece in pieces:
        body = piece.text
        if piece.kind not in ("withdrawing", "idle"):
            body = _MARKS.sub(r"\\\g<0>", body)
        shown.append("[" * piece.opens + body + "]" * piece.closes)
    return "".join(shown)


def format_colored(pieces: Sequence[Segment]) -> Text:
    """Format a trace in colors: withdrawn text is struck out and red, what replaced it is green.

    A backspace is shown only if it had nothing to withdraw.
    """
    shown = [piece for piece in pieces if piece.kind != "withdrawing"]
    return Text.assemble(*((piece.text, STYLES[piece.kind]) for piece in shown))


@dataclass
class _Step:
    """An action: `before` are the tokens before it; the other fields are as in `Segment`."""

    token: int
    before: list[int]
    kind: SegmentKind
    opens: bool = False
    closes: bool = False


def _steps(actions: Sequence[int], vocabulary: Vocabulary) -> list[_Step]:
    """Classify the actions one by one, up to eos."""
    steps: list[_Step] = []
    stack: list[_Step] = []
    removed: dict[int, int] = {}  # by place, the token that was withdrawn there last
    for token in actions:
        if token == vocabulary.eos:
            break
        before = [step.token for step in stack]
        if token != vocabulary.backspace:
            replaces = removed.pop(len(stack), token) != token
            steps.append(_Step(token, before, "replacing" if replaces else "standing"))
            stack.append(steps[-1])
        elif stack:
            steps.append(_Step(token, before, "withdrawing"))
            top = stack.pop()
            top.kind, removed[len(stack)] = "withdrawn", top.token
        else:
            steps.append(_Step(token, before, "idle"))
    depth = 0
    for step in steps:
        if step.kind == "withdrawn":
            step.opens = depth == 0
            depth += 1
        elif step.kind == "withdrawing":
            depth -= 1
            step.closes = depth == 0
    return steps


def _added_text(before: list[int], tokens: list[int], text: Callable[[Sequence[int]], str]) -> str:
    """Return the text that tokens add to that of the tokens before them."""
    old, new = text(before), text(before + tokens)
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), None)
    return new[min(len(old), len(new)) if same is None else same :]
