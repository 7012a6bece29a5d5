"""`freerun predict`: the outputs of a trained model for new sources."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from freerun.cli.measuring import CheckpointOptions
from freerun.cli.options import SettingsCommand, UserSettings
from freerun.data import Codec, MediaCodec
from freerun.data.files import Line, decode_lines, stream_lines
from freerun.data.media import SUFFIXES, list_media
from freerun.data.rows import parse_row_of_line
from freerun.errors import DataError
from freerun.evaluation import Decoding, on_device
from freerun.report.live import NOTATION, Traces
from freerun.training.prediction import Prediction, check_n_best, predict_batch
from freerun.training.processes import limit_threads
from freerun.training.sources import stream_batches
from freerun.training.tasks import find_source_task, load_predictor

NOTES = f"""\
With --scores or --n_best, an output is a line with three columns between tabs: the number of its
source, its log-probability, and its text. With --json, a source is a JSON object in one line, with
the list `outputs`: text, log_prob, score, tokens, complete. Outputs that reach the maximum length
are counted at the end.

{NOTATION}"""


@dataclass(frozen=True)
class PredictOptions(CheckpointOptions):
    """The options of `freerun predict` itself.

    Args:
        checkpoint: the folder of a trained model, or of any Hugging Face model.
        file: the sources, in the format of the task of the model; standard input by default. For a
            model that freerun did not train, prompts in lines, or rows such as messages.
        max_new_tokens: the maximum number of tokens of an output, for a model that freerun did not
            train; by default 256.
        n_best: the number of outputs of each source, best first; it needs a beam of this size, or
            samples.
        scores: print the log-probability of every output.
        json: print a JSON object for every source.
        show_backspaces: show all that a model with a backspace wrote, with what it withdrew: in
            colors and live on a terminal, else as described below.
    """

    file: str | None = None
    max_new_tokens: int | None = None
    n_best: int = 1
    scores: bool = False
    json: bool = False
    show_backspaces: bool = False

    def __post_init__(self) -> None:
        """Check the ranges and the combination of settings."""
        super().__post_init__()
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if self.show_backspaces and (self.n_best > 1 or self.scores or self.json):
            raise ValueError("show_backspaces excludes n_best, scores and json")


MAX_SHOWN = 5
"""The maximum number of sources that a note names."""


@dataclass
class Printer:
    """Prints outputs, and counts those that were cut off.

    Args:
        own: the options.
        codec: the codec of the model.
        count: the number of sources so far.
        cut: the number of sources with an output that was cut off.
        first_cut: which the first of them are.
    """

    own: PredictOptions
    codec: Codec
    count: int = 0
    cut: int = 0
    first_cut: list[int] = field(default_factory=list)

    def show(self, outputs: Sequence[Prediction], lines: Sequence[str]) -> None:
        """Print the outputs for a source, which was read from `lines`."""
        self.count += 1
        if not all(each.complete for each in outputs):
            self.cut += 1
            if self.cut <= MAX_SHOWN:
                self.first_cut.append(self.count)
        if self.own.json:
            row = parse_row_of_line(lines) or {"source": "\n".join(lines)}
            found = {**row, "outputs": [each.to_dict() for each in outputs]}
            print(json_module.dumps(found, ensure_ascii=False))
        elif self.own.scores or self.own.n_best > 1:
            for each in outputs:
                text = self.codec.text(each.tokens)
                print(self.count, f"{each.log_prob:.4f}", text, sep="\t")
        else:
            print(self.codec.write(outputs[0].tokens, lines))

    def describe_cut(self) -> str | None:
        """Return a note on outputs that were cut off; None if there are none."""
        if not self.cut:
            return None
        shown = ", ".join(map(str, self.first_cut)) + (", …" if self.cut > MAX_SHOWN else "")
        return (
            f"note: outputs of {self.cut} of {self.count} sources reached the maximum length "
            f"and are cut off: {shown}"
        )


class PredictCommand(SettingsCommand):
    """Read sources from a file or from standard input, and print the outputs of a trained model."""

    notes = NOTES

    def declare(self, words: Sequence[str]) -> None:
        """Add the settings."""
        self.add(PredictOptions, positional=["checkpoint", "file"])
        self.add(Decoding, "Decoding")

    def run(self, settings: UserSettings) -> None:
        """Run the command."""
        own = settings.build(PredictOptions, "options")
        decoding = settings.build(Decoding, "decoding")
        check_n_best(own.n_best, decoding)
        limit_threads()
        policy, codec = load_predictor(own.checkpoint, own.max_new_tokens, own.language)
        traces = Traces(policy, codec, decoding) if own.show_backspaces else None
        size = own.batch_size if traces is None else traces.batch_size(own.batch_size)
        lines, name = _open_lines(own.file, codec)
        printer, task = Printer(own, codec), find_source_task(own.checkpoint)
        for batch, texts in stream_batches(policy, codec, task, lines, name, decoding, size):
            if traces is not None:
                traces.show(on_device(batch, policy))
            else:
                found = predict_batch(policy, codec, batch, decoding, own.n_best)
                for outputs, text in zip(found, texts, strict=True):
                    printer.show(outputs, text)
            sys.stdout.flush()
        if (note := printer.describe_cut()) is not None:
            print(note, file=sys.stderr)


def _open_lines(file: str | None, codec: Codec) -> tuple[Iterator[Line], str]:
    """Return the numbered lines of a file, or of standard input, as they are read, and its name."""
    media = SUFFIXES[codec.media] if isinstance(codec, MediaCodec) else ()
    if file is not None and file.lower().endswith(media):
        return iter([(1, file)]), file  # an image or a sound, in place of a list of them
    if file is not None and isinstance(codec, MediaCodec) and Path(file).is_dir():
        return enumerate(list_media(file, codec.media), 1), file
    if file not in (None, "-"):
        return stream_lines(str(file)), str(file)
    if sys.stdin is None:
        raise DataError("standard input is closed")
    return decode_lines(sys.stdin.buffer, "standard input"), "standard input"
