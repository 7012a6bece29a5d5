"""A method that fails, which tests give by the address of this file."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any, ClassVar

from freerun.methods import MLE, Clock


@dataclass(frozen=True, kw_only=True)
class Trouble(MLE):
    """MLE that fails after its fifth update, unless the environment says that it is repaired.

    Args:
        killed: whether its process is killed, instead of an exception.
    """

    name: ClassVar[str] = "trouble"

    killed: bool = False

    def after_update(self, policy: Any, clock: Clock, modules: Any) -> None:
        if clock.step != 4 or "TROUBLE_REPAIRED" in os.environ:
            return
        if self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("this method has a fault")
