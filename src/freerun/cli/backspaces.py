"""What rows write and withdraw, printed for a person to read."""

from __future__ import annotations

from collections import defaultdict

from jaxtyping import Int
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from freerun.batch import Batch
from freerun.data import Codec
from freerun.evaluation import Decoding, decode
from freerun.policy import Policy
from freerun.report.trace import coloured, plain, trace
from freerun.settings import SettingError

NOTATION = """\
With --show_backspaces, withdrawn text is struck out and red, and what replaced
it is green. Where the output is no terminal, it is as in 12[3<]4: 3 was written
and withdrawn, and 4 replaced it. Brackets hold what did not remain, in the
order in which it was written; in them, every < withdraws the last token that
still stands, and outside of them, < found nothing to withdraw. Where a text has
one of these marks itself, a backslash stands before it.
"""
A_SECOND = 12
"""How often a live trace is drawn."""


class Traces:
    """Decodes, and prints all that was written, with what was withdrawn, a line for each row.

    On a terminal rows are shown while they are written, in colours; elsewhere, in the notation that
    `plain` describes.

    Args:
        policy: the model.
        codec: makes texts of tokens.
        decoding: how to decode.
        console: where to print; the standard output by default.

    Raises:
        SettingError: where the model has no backspace.
    """

    def __init__(
        self, policy: Policy, codec: Codec, decoding: Decoding, console: Console | None = None
    ) -> None:
        if policy.vocabulary.backspace is None:
            raise SettingError(
                "--show_backspaces: the model has no backspace; behaviour_cloning and "
                "sequence_match train models that have one"
            )
        self.policy, self.codec, self.decoding = policy, codec, decoding
        self.console = console or Console(highlight=False)

    @property
    def live(self) -> bool:
        """Whether rows are shown while they are written."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def rows(self, most: int) -> int:
        """How many of `most` rows to decode together: on a terminal, as many as it shows."""
        return min(most, max(1, self.console.height - 2)) if self.live else most

    def show(self, batch: Batch) -> None:
        """Decode a batch, and print its rows."""
        growing: defaultdict[int, list[int]] = defaultdict(list)
        limits = self.policy.limit(batch.source).tolist()

        def watch(rows: Int[Tensor, "n"], actions: Int[Tensor, "n"]) -> None:
            for row, action in zip(rows.tolist(), actions.tolist(), strict=True):
                if len(growing[row]) < limits[row]:
                    growing[row].append(action)

        def picture() -> Text:
            return Text("\n").join(self._line(list(growing[row])) for row in range(len(limits)))

        if not self.live:
            found = decode(self.policy, batch.source, self.decoding, ids=batch.ids)
        else:
            with Live(
                get_renderable=picture,
                console=self.console,
                refresh_per_second=A_SECOND,
                transient=True,
            ):
                found = decode(self.policy, batch.source, self.decoding, ids=batch.ids, watch=watch)
        actions, mask = found.taken
        for row, length in zip(actions.tolist(), mask.sum(1).tolist(), strict=True):
            self.console.print(self._line(row[:length]), soft_wrap=True)

    def _line(self, actions: list[int]) -> Text:
        """The trace of a row."""
        pieces = trace(actions, self.policy.vocabulary, self.codec.text)
        return coloured(pieces) if self.live else Text(plain(pieces))
