"""Print the tokens that a model writes and withdraws, live on a terminal."""

from __future__ import annotations

from collections import defaultdict

import rich.console
from jaxtyping import Float, Int
from rich.live import Live
from rich.text import Text
from torch import Tensor

from freerun.batch import Batch
from freerun.console import Console
from freerun.data import Codec
from freerun.evaluation import Decoding, decode
from freerun.policy import Policy
from freerun.report.trace import format_colored, plain, trace
from freerun.settings import SettingError

NOTATION = """\
With --show_backspaces, withdrawn text is struck out and red, and what replaced it is green. If the
output is not a terminal, it is written as in 12[3<]4: 3 was written and withdrawn, and 4 replaced
it. Brackets hold what was withdrawn, in the order in which it was written; in them, each <
withdraws the last token that still stands, and outside of them, < found nothing to withdraw. If a
text contains one of these marks itself, a backslash is put before it.
"""
REFRESHES_PER_SECOND = 12


class Traces:
    """Decodes batches and prints the actions of each row on a line, withdrawn tokens included.

    On a terminal, rows are shown in colors as they are written; otherwise, in the notation of
    `freerun.report.trace.plain`.

    Args:
        policy: the model.
        codec: its codec.
        decoding: how to decode.
        console: where to print; the standard output by default.

    Raises:
        SettingError: if the model has no backspace.
    """

    def __init__(
        self,
        policy: Policy,
        codec: Codec,
        decoding: Decoding,
        console: rich.console.Console | None = None,
    ) -> None:
        if policy.vocabulary.backspace is None:
            raise SettingError(
                "--show_backspaces: the model has no backspace; behavior_cloning and "
                "sequence_match train models that have one"
            )
        self.policy, self.codec, self.decoding = policy, codec, decoding
        self.console = console or Console()

    @property
    def live(self) -> bool:
        """Whether rows are shown while they are written."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def batch_size(self, limit: int) -> int:
        """Return how many rows to decode together: at most `limit`, and what fits a terminal."""
        return min(limit, max(1, self.console.height - 2)) if self.live else limit

    def show(self, batch: Batch) -> None:
        """Decode a batch and print its rows."""
        growing: defaultdict[int, list[int]] = defaultdict(list)
        limits = self.policy.limit(batch.source).tolist()

        def watch(
            scores: Float[Tensor, "n a"],
            rows: Int[Tensor, "n"],
            cell: int,
            actions: Int[Tensor, "n"],
        ) -> None:
            for row, action in zip(rows.tolist(), actions.tolist(), strict=True):
                if len(growing[row]) < limits[row]:
                    growing[row].append(action)

        def picture() -> Text:
            return Text("\n").join(
                self._format_row(list(growing[row])) for row in range(len(limits))
            )

        if not self.live:
            found = decode(self.policy, batch.source, self.decoding, ids=batch.ids)
        else:
            with Live(
                get_renderable=picture,
                console=self.console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            ):
                found = decode(self.policy, batch.source, self.decoding, ids=batch.ids, watch=watch)
        actions, mask = found.all_actions
        for row, length in zip(actions.tolist(), mask.sum(1).tolist(), strict=True):
            self.console.print(self._format_row(row[:length]), soft_wrap=True)

    def _format_row(self, actions: list[int]) -> Text:
        """Return the trace of a row."""
        pieces = trace(actions, self.policy.vocabulary, self.codec.text)
        return format_colored(pieces) if self.live else Text(plain(pieces))
