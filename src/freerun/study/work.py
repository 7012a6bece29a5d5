"""The work of a comparison: its jobs, which any process can do, and how it is sent there."""

from __future__ import annotations

import pickle
import pickletools
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from freerun.data import Data
from freerun.errors import DataError
from freerun.evaluation import Decoding
from freerun.explanations import explain_error
from freerun.imports import Imported
from freerun.methods import Method
from freerun.settings import SettingError
from freerun.study.outputs import BEAM, evaluate_run
from freerun.study.plan import Plan
from freerun.study.results import SeedResult
from freerun.training import TrainingSettings, fit
from freerun.training.progress import Status
from freerun.training.record import Results, digest_examples
from freerun.training.resolve import Run


@dataclass(frozen=True)
class Work:
    """What all jobs of a comparison have in common.

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
class Job(ABC):
    """A part of the work that one process does.

    Args:
        number: its place in the order in which jobs begin.
        name: how messages call it.
        variant: the name of its method in the comparison.
        method: the method.
        training: the settings of training.
        folder: where all its files are, relative to the folder of the comparison.
    """

    number: int
    name: str
    variant: str
    method: Method
    training: TrainingSettings
    folder: Path

    @abstractmethod
    def do(
        self,
        work: Work,
        data: Data,
        *,
        quiet: bool = True,
        on_progress: Callable[[Status], object] | None = None,
        run: Run | None = None,
    ) -> Any:
        """Do the job; what is finished of it is only loaded.

        Args:
            work: the work that it is a part of.
            data: the data of the task.
            quiet: show no progress.
            on_progress: is called with the status of training from time to time.
            run: the result of `resolve` for it, if that was called already.
        """

    @abstractmethod
    def summarize(self, result: Any, work: Work) -> str:
        """Describe its result in one line."""


@dataclass(frozen=True)
class TrainJob(Job):
    """Training and evaluating one method with one seed."""

    def do(
        self,
        work: Work,
        data: Data,
        *,
        quiet: bool = True,
        on_progress: Callable[[Status], object] | None = None,
        run: Run | None = None,
    ) -> SeedResult:
        """Train and evaluate; a finished run is only loaded."""
        plan, output = work.plan, work.output / self.folder
        trained = fit(
            plan.task,
            replace(data, notes=[]),  # they were shown once
            self.method,
            model=plan.model,
            training=self.training,
            output=output,
            quiet=quiet,
            on_progress=on_progress,
            run=run,
            name=self.name,
        )
        test, *searched = (
            evaluate_run(
                trained,
                plan.task,
                data.test,
                output,
                decoding=decoding,
                batch_size=plan.training.eval_batch_size,
                prefix=prefix,
                save=PartialState().is_main_process,
            )
            for decoding, prefix in zip(work.decodings, ("", BEAM), strict=False)
        )
        # Without the model, which would be sent to the process that collects the results.
        results = Results(**{each.name: getattr(trained, each.name) for each in fields(Results)})
        return SeedResult(results, test, *searched)

    def summarize(self, result: SeedResult, work: Work) -> str:
        """Return the headline metric on test, and how long training took."""
        spent = f"{result.fit.updates:,} updates in {result.fit.seconds:.0f} s"
        return f"{work.plan.describe_headline(result.test.metrics, 'test')}, after {spent}"


def list_train_jobs(plan: Plan) -> list[TrainJob]:
    """List the runs of a plan as jobs, seed by seed."""
    return [
        TrainJob(
            number,
            f"{name}, seed {seed}",
            name,
            plan.methods[name],
            plan.get_training(name, seed),
            folder,
        )
        for number, (name, seed, folder) in enumerate(plan.runs)
    ]


@dataclass(frozen=True)
class Parcel:
    """Work as it is sent to other processes.

    Args:
        imported: what was imported by address, which the work refers to.
        pickled: the work.
        modules: the names of all modules that it refers to, among other texts.
        output: the folder of the comparison.
    """

    imported: Imported
    pickled: bytes
    modules: frozenset[str]
    output: Path

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
        return cls(Imported.collect(texts), pickled, frozenset(texts), work.output)

    def unpack(self) -> Work:
        """Unpack the work in another process."""
        self.imported.restore()
        # It comes from the process that started this one, not from a file.
        work: Work = pickle.loads(self.pickled)  # noqa: S301
        return work


@dataclass(frozen=True)
class Failure:
    """Why a job failed in another process.

    Attributes:
        message: the error, in one line.
        traceback: its traceback, unless it is an error that a user can correct.
    """

    message: str
    traceback: str = ""

    @classmethod
    def describe(cls, error: BaseException) -> Failure:
        """Describe an exception."""
        message = explain_error(error)
        if message is not None:
            return cls(message)
        said = " ".join(str(error).split())
        return cls(f"{type(error).__name__}: {said:.500}", traceback.format_exc())
