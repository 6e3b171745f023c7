"""A job that is asked to stop saves its work first."""

import logging
import signal
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # a time limit or preemption, a batch script's own, Ctrl-C


class StopRequest:
    """Within its context the process survives `SIGNALS`, and says which one came (0: none), so that it can end itself.

    Outside of it they end the process at once, as they did before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        log.info("asked to stop by %s", signal.Signals(number).name)

    def exit(self) -> None:
        """End the process as one that the signal ended, by its exit status."""
        raise SystemExit(128 + self.signal)
