"""Let a job save its work before a signal ends it."""

import logging
import signal
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # a time limit or preemption, a batch script's own, Ctrl-C


class StopRequest:
    """A context in which `SIGNALS` do not end the process. `signal` is the last one that arrived, or 0.

    The process should then save its work and call `exit`. Outside the context, signals have their previous effect.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._handlers = {each: signal.signal(each, self._record) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._handlers.items():
            signal.signal(each, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        log.info("asked to stop by %s", signal.Signals(number).name)

    def exit(self) -> None:
        """End the process with the exit status of a process that the signal has killed."""
        raise SystemExit(128 + self.signal)
