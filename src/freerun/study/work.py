"""The work of a comparison: its runs, which any process can train and evaluate."""

from __future__ import annotations

import pickle
import pickletools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from freerun.data import Data
from freerun.errors import CheckpointError, DataError, ProcessError, WriteError
from freerun.evaluation import Decoding
from freerun.imports import Imported, locate_error
from freerun.settings import SettingError
from freerun.study.outputs import BEAM, evaluate_run
from freerun.study.plan import Plan
from freerun.study.results import SeedResult
from freerun.training import fit
from freerun.training.progress import Status
from freerun.training.record import Results, digest_examples
from freerun.training.resolve import Run

_OF_USERS = (
    SettingError, DataError, CheckpointError, WriteError, ProcessError, FloatingPointError,
)  # fmt: skip
"""Errors that a user can correct, whose message suffices."""


@dataclass(frozen=True)
class Work:
    """All runs of a comparison.

    Args:
        plan: the plan of the comparison.
        output: its folder.
        decodings: how to decode the test set: greedily, for example, and by beam search.
        digests: the SHA-256 of the examples of each split.
    """

    plan: Plan
    output: Path
    decodings: Sequence[Decoding]
    digests: dict[str, str]

    def train(
        self,
        number: int,
        data: Data,
        *,
        quiet: bool = True,
        on_progress: Callable[[Status], Any] | None = None,
        run: Run | None = None,
    ) -> SeedResult:
        """Train and evaluate a run; a finished one is only loaded.

        Args:
            number: the number of the run in the plan.
            data: the data of the task.
            quiet: show no progress.
            on_progress: is called with the status of training from time to time.
            run: the result of `resolve` for the run, if it was called already.
        """
        plan = self.plan
        name, seed, folder = plan.runs[number]
        trained = fit(
            plan.task,
            replace(data, notes=[]),  # they were shown once
            plan.methods[name],
            model=plan.model,
            training=plan.get_training(name, seed),
            output=self.output / folder,
            quiet=quiet,
            on_progress=on_progress,
            run=run,
            name=f"{name}, seed {seed}",
        )
        test, *searched = (
            evaluate_run(
                trained,
                plan.task,
                data.test,
                self.output / folder,
                decoding=decoding,
                batch_size=plan.training.eval_batch_size,
                prefix=prefix,
                save=PartialState().is_main_process,
            )
            for decoding, prefix in zip(self.decodings, ("", BEAM), strict=False)
        )
        # Without the model, which would be sent to the process that collects the results.
        results = Results(**{each.name: getattr(trained, each.name) for each in fields(Results)})
        return SeedResult(results, test, *searched)

    def load(self) -> Data:
        """Load the data in another process.

        Raises:
            DataError: if they are not the same there.
        """
        data = self.plan.model.load(self.plan.task)
        for name, digest in self.digests.items():
            if digest_examples(getattr(data, name)) != digest:
                raise DataError(
                    f"the task {self.plan.task.name}: the examples of {name} differ between "
                    "processes; the rows of a task must not depend on the process, as the order "
                    "of a set does"
                )
        return data


@dataclass(frozen=True)
class Parcel:
    """Work as it is sent to other processes.

    Args:
        imported: what was imported by address, which the work refers to.
        pickled: the work.
    """

    imported: Imported
    pickled: bytes

    @classmethod
    def pack(cls, work: Work) -> Parcel:
        """Pack work.

        Raises:
            SettingError: if other processes cannot import something that the work refers to.
        """
        try:
            pickled = pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SettingError(
                f"the comparison cannot be sent to other processes ({error}); define tasks, "
                "methods and functions at the top of a module"
            ) from None
        # Among the texts of a pickle are the names of all modules that it refers to.
        texts = {each for _, each, _ in pickletools.genops(pickled) if isinstance(each, str)}
        return cls(Imported.collect(texts), pickled)

    def unpack(self) -> Work:
        """Unpack the work in another process."""
        self.imported.restore()
        # It comes from the process that started this one, not from a file.
        work: Work = pickle.loads(self.pickled)  # noqa: S301
        return work


@dataclass(frozen=True)
class Failure:
    """Why a run failed in another process.

    Attributes:
        message: the error, in one line.
        traceback: its traceback, unless it is an error that a user can correct.
    """

    message: str
    traceback: str = ""

    @classmethod
    def describe(cls, error: BaseException) -> Failure:
        """Describe an exception."""
        place = locate_error(error) if isinstance(error, Exception) else None
        if isinstance(error, _OF_USERS):
            return cls(str(error))
        if place is not None:
            return cls(place)
        said = " ".join(str(error).split())
        return cls(f"{type(error).__name__}: {said:.500}", traceback.format_exc())
