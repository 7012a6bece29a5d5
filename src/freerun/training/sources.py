"""Sources to predict from, in batches, as the lines of a file or of a pipe are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from freerun.batch import Batch
from freerun.data import Codec, MediaCodec, TextCodec
from freerun.data.files import Line, get_suffix, stream_lines
from freerun.data.rows import ROW_COLUMNS, write_object
from freerun.data.tables import FORMATS, read_rows
from freerun.errors import DataError
from freerun.evaluation import Decoding
from freerun.policy import Policy
from freerun.tasks import Pairs, Task
from freerun.tasks.media import MediaTask
from freerun.training.checks import check_lengths, check_model_decoding


def reads_lines(codec: Codec) -> bool:
    """Return whether every line is a source; otherwise, blank lines are between sources."""
    return isinstance(codec, TextCodec | MediaCodec)


def stream_batches(
    policy: Policy,
    codec: Codec,
    task: Task | None,
    lines: Iterable[Line],
    name: str,
    decoding: Decoding,
    size: int,
) -> Iterator[tuple[Batch, list[Sequence[str]]]]:
    """Yield batches of sources as their lines are read, and the lines of each source.

    The ids of a batch, which determine what is drawn, are the numbers of its sources from the
    beginning. Where a line may be a JSON object, a file may also be a table, whose rows are such
    objects.

    Args:
        policy: the model.
        codec: the codec of the model.
        task: the task that reads the sources; by default the codec does.
        lines: the lines.
        name: the name of their file, for messages.
        decoding: how the model will be decoded.
        size: the number of sources of a batch, and the minimum number of lines to read at once.

    Raises:
        DataError: names the file, the line and what is expected.
        SettingError: if the model cannot be decoded in this way.
    """
    read = None if task is None else type(task).read_sources
    general = read in (None, Task.read_sources, MediaTask.read_sources)
    if isinstance(task, Pairs) and _is_table(name, named=False):
        lines = task.columns.read_sources(name)
        task = None if read is Pairs.read_sources else task  # their columns are chosen
    elif reads_lines(codec) and general and _is_table(name):
        lines = ((row.number, write_object(row)) for row in read_rows(name))
    first = 0
    for block in _cut_blocks(lines, size, by_line=reads_lines(codec)):
        text = [line for _, line in block]
        with _number_from([number for number, _ in block], first):
            if task is None:
                sources = codec.read(text, name)
            else:
                sources = task.read_sources(codec, text, name)
            check_lengths(policy, sources, name)
        if not first:
            check_model_decoding(policy, sources, decoding)
        for start in range(0, len(sources), size):
            numbers = range(start, min(start + size, len(sources)))
            batch = sources.batch(numbers)
            batch = replace(batch, ids=batch.ids + first)
            yield batch, [sources.lines[number] for number in numbers]
        first += len(sources)


def _is_table(path: str, *, named: bool = True) -> bool:
    """Return whether a file has rows that are not JSON lines.

    Args:
        path: the file.
        named: whether those of .tsv must have columns with known names.
    """
    suffix = get_suffix(path)
    if suffix == ".tsv" and named:
        _, first = next(stream_lines(path))
        return not {columns[0] for columns in ROW_COLUMNS.values()}.isdisjoint(first.split("\t"))
    return suffix in FORMATS and suffix not in (".jsonl", ".ndjson")


def _cut_blocks(lines: Iterable[Line], size: int, *, by_line: bool) -> Iterator[list[Line]]:
    """Cut a file into blocks of at least `size` lines, so that it need not fit into memory.

    Args:
        lines: the lines.
        size: the number of lines.
        by_line: whether every line is a source; otherwise, blank lines are between sources.
    """
    block: list[Line] = []
    for number, line in lines:
        if by_line or block or line.strip():
            block.append((number, line))
        if len(block) >= size and (by_line or not line.strip()):
            yield block
            block = []
    if block:
        yield block


@contextmanager
def _number_from(lines: Sequence[int], example: int) -> Iterator[None]:
    """Count lines and examples in messages from the beginning of the file, not of a block.

    Args:
        lines: the numbers of the lines of the block; rows of a table may take several lines each.
        example: the number of examples before the block.
    """
    try:
        yield
    except DataError as error:

        def shift(found: re.Match[str]) -> str:
            number = int(found[2].replace(",", ""))
            is_line = found[1] == "line"
            if is_line:
                return f", line {lines[min(number, len(lines)) - 1]}"
            return f", example {number + example:,}"

        message = re.sub(r", (line|example) (\d[\d,]*)", shift, str(error), count=1)
        raise DataError(message) from None
