"""Truncate, drop or reject prompts and completions that are too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from freerun.data.encoding import EncodedRow
from freerun.errors import DataError

SHOWN = 3
"""The number of rows that a note names."""

Truncation = Literal["error", "start", "end", "drop"]
"""What is done with rows that are too long (see `LengthLimits`)."""


@dataclass(frozen=True)
class LengthLimits:
    """The maximum number of tokens of each side, and the treatment of longer rows.

    Args:
        prompt: the maximum number of tokens of a prompt; None for any number.
        completion: the maximum number of tokens of a completion, eos included.
        truncation: `error` refuses a longer row; `start` cuts off the beginning of its prompt, and
            `end` the end; both cut off the end of its completion, with its eos; `drop` leaves the
            row out.
    """

    prompt: int | None
    completion: int
    truncation: Truncation

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: if a setting is wrong. The message names it.
        """
        for name, most in (("max_prompt", self.prompt), ("max_completion", self.completion)):
            if most is not None and most < 1:
                raise ValueError(f"{name} is {most}; it must be at least 1")
        if self.truncation not in get_args(Truncation):
            choices = ", ".join(get_args(Truncation))
            raise ValueError(f"truncation is {self.truncation!r}; it must be one of {choices}")

    def apply(self, rows: Sequence[EncodedRow], special: frozenset[int]) -> list[EncodedRow]:
        """Return the remaining rows, truncated if they are too long.

        Args:
            rows: the rows.
            special: tokens that remain at the ends of a truncated prompt, such as bos.

        Raises:
            DataError: if a row is too long, or none remains.
        """
        kept = []
        for row in rows:
            long = self._long(row)
            if not long:
                kept.append(row)
            elif self.truncation == "error":
                count = sum(bool(self._long(each)) for each in rows)
                others = f" ({count} of {len(rows)} rows are too long)" if count > 1 else ""
                message = f"{row.where}: {long}, or choose truncation: start, end or drop{others}"
                raise DataError(message)
            elif self.truncation != "drop":
                prompt = self.truncate_prompt(row.prompt, row.where, special)
                completion = row.completion[: self.completion]
                kept.append(replace(row, prompt=prompt, completion=completion))
        if rows and not kept:
            raise DataError(
                f"{rows[0].where} and all others are too long; raise max_prompt or max_completion"
            )
        return kept

    def describe(self, rows: Sequence[EncodedRow]) -> list[str]:
        """Return notes on how many of these rows are truncated or left out."""
        counts: Counter[str] = Counter()
        dropped = []
        for row in rows:
            if self.truncation == "drop":
                dropped += [row.where] if self._long(row) else []
            else:
                counts["prompts"] += self.prompt is not None and len(row.prompt) > self.prompt
                counts["completions"] += len(row.completion) > self.completion
        counts["left out"] = len(dropped)
        places = "; ".join(dropped[:SHOWN]) + ("; …" if len(dropped) > SHOWN else "")
        said = {
            "left out": f"rows of {len(rows)} were left out: they are too long ({places})",
            "prompts": f"prompts of {len(rows)} were cut off at the {self.truncation}",
            "completions": f"completions of {len(rows)} were cut off at the end",
        }
        return [f"{counts[what]} {words}" for what, words in said.items() if counts[what]]

    def truncate_prompt(self, prompt: list[int], where: str, special: frozenset[int]) -> list[int]:
        """Truncate a prompt to the maximum number of tokens.

        Raises:
            DataError: if it is too long and truncation is off, or only special tokens would remain.
        """
        if self.prompt is None or len(prompt) <= self.prompt:
            return prompt
        if self.truncation not in ("start", "end"):
            raise DataError(f"{where}: {self._too_long(prompt)}")
        head = next((i for i, token in enumerate(prompt) if token not in special), len(prompt))
        tail = next((i for i, t in enumerate(prompt[::-1]) if t not in special), 0)
        room = self.prompt - head - tail
        if room < 1:
            raise DataError(
                f"{where}: {self.prompt} tokens are too few for the special ones of the prompt and "
                "one more; raise max_prompt"
            )
        end = len(prompt) - tail
        inner = prompt[head:end]
        inner = inner[-room:] if self.truncation == "start" else inner[:room]
        return [*prompt[:head], *inner, *prompt[end:]]

    def _long(self, row: EncodedRow) -> str | None:
        """Return a message on a side that is too long, if there is one."""
        if self.prompt is not None and len(row.prompt) > self.prompt:
            return self._too_long(row.prompt)
        if len(row.completion) > self.completion:
            return (
                f"the completion has {len(row.completion)} tokens, more than {self.completion}; "
                "raise max_completion or limit"
            )
        return None

    def _too_long(self, prompt: Sequence[int]) -> str:
        return f"the prompt has {len(prompt)} tokens, more than {self.prompt}; raise max_prompt"
