"""Reading and writing beside the network's work."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
NAME = "overlapped"  # of the thread


def overlapped(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What a function makes of each item, in order, by a thread of its own.

    While the caller uses a result, the next one is being made; and while an item is being made, in the caller's thread,
    the function works on the last one.

    An error of the function is raised in the place of its result, and no later item is begun. The thread has ended when
    this generator has.
    """

    def unless_failed(last: Future[Result] | None, item: Item) -> Result:
        if last is not None:
            last.result()  # it is done, by this very thread; an error of it is raised again
        return function(item)

    with ThreadPoolExecutor(1, NAME) as thread:
        last: Future[Result] | None = None
        for item in items:
            begun = thread.submit(unless_failed, last, item)
            if last is not None:
                yield last.result()
            last = begun
        if last is not None:
            yield last.result()
