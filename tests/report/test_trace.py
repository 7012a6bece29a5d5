"""Traces of what was written and withdrawn, letter by letter."""

import pytest
from rich.console import Console

from freerun.report.trace import Segment, format_colored, plain, trace
from freerun.vocabulary import Vocabulary

LETTERS = "0123456789[]<\\ "
WORDS = Vocabulary((*LETTERS, "<eos>", "<backspace>"), bos=17, pad=18, eos=15, backspace=16)


def text(tokens):
    return "".join(WORDS.decode(tokens))


def traced(written, text=text):
    """The trace of letters, in which `←` is a backspace and `.` is eos."""
    special = {"←": WORDS.backspace, ".": WORDS.eos}
    actions = [special[c] if c in special else LETTERS.index(c) for c in written]
    return trace(actions, WORDS, text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ""),
        ("123.", "123"),
        ("123←4.", "12[3<]4"),
        ("123←4", "12[3<]4"),
        ("1234←←5.", "12[34<<]5"),
        ("123←4←5.", "12[3<][4<]5"),
        ("1234←5←←6.", "12[34<5<<]6"),
        ("123←.", "12[3<]"),
        ("1←2←", "[1<][2<]"),
        ("←12.", "<12"),
        ("1←←2.", "[1<]<2"),
        ("12←←←34←5.", "[12<<]<3[4<]5"),
        ("[1]<\\←2.", r"\[1\]\<[\\<]2"),
        (".12", ""),
    ],
)
def test_the_plain_notation(written, expected):
    assert plain(traced(written)) == expected


def test_pieces_by_hand():
    assert traced("123←456←←5.") == [
        Segment("standing", "12"),
        Segment("withdrawn", "3", opens=True),
        Segment("withdrawing", "<", closes=True),
        Segment("replacing", "4"),
        Segment("withdrawn", "56", opens=True),
        Segment("withdrawing", "<<", closes=True),
        Segment("standing", "5"),
    ]


def test_a_token_that_is_written_again_replaces_nothing():
    kinds = [piece.kind for piece in traced("13←3.")]
    assert kinds == ["standing", "withdrawn", "withdrawing", "standing"]


@pytest.mark.parametrize(
    ("written", "replacing"),
    [
        ("123←4.", "4"),
        ("1234←←56.", "56"),
        ("1234←←35.", "5"),
        ("12←←←34←5.", "35"),
        ("123←.", ""),
    ],
)
def test_what_replaced_something_is_another_token_in_its_place(written, replacing):
    found = [piece.text for piece in traced(written) if piece.kind == "replacing"]
    assert "".join(found) == replacing


def test_colours():
    shown = format_colored(traced("←123←4567←←8."))
    assert shown.plain == "<12345678"
    assert [(shown.plain[slice(*span[:2])], span.style) for span in shown.spans] == [
        ("<", "red"), ("3", "red strike"), ("4", "green"), ("67", "red strike"), ("8", "green"),
    ]  # fmt: skip
    console = Console(width=80, force_terminal=True, color_system="standard", _environ={})
    with console.capture() as found:
        console.print(format_colored(traced("13←4.")), end="")
    assert found.get() == "1\x1b[9;31m3\x1b[0m\x1b[32m4\x1b[0m"


def test_texts_may_have_marks_of_rich():
    assert format_colored(traced("[1].")).plain == "[1]"


def test_a_text_without_white_space_at_its_ends():
    """As that of tokenizers is: a space that was withdrawn alone is told by its symbol."""

    def stripped(tokens):
        return text(tokens).strip()

    assert plain(traced("1 2 ←3.", stripped)) == "1 2[ <]3"
    assert plain(traced("1 ←3 4.", stripped)) == "1[ <]3 4"


def test_a_token_may_change_the_text_of_those_before_it():
    """As the bytes of a character do, which is none before the last has come."""
    said = {(): "", (1,): "�", (1, 2): "é", (1, 2, 3): "éa"}
    found = trace([1, 2, 3, 16, 3, 15], WORDS, lambda tokens: said[tuple(tokens)])
    assert plain(found) == "é[a<]a"
    found = trace([1, 2, 16, 2, 15], WORDS, lambda tokens: said[tuple(tokens)])
    assert plain(found) == "�[é<]é"
