"""Read and write while the network works."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
NAME = "overlapped"  # prefix of the thread's name


def overlapped(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the function's result for each item, in order. The function runs in a thread of its own.

    While the caller uses a result, the thread computes the next one. While `items` prepares an item in the caller's
    thread, the function works on the previous item.

    An error of the function is raised in place of its result, and no later item is started. The thread ends with this
    generator.
    """

    def unless_failed(last: Future[Result] | None, item: Item) -> Result:
        if last is not None:
            last.result()  # finished, as there is only one thread; raises its error again, if it had one
        return function(item)

    with ThreadPoolExecutor(1, NAME) as thread:
        last: Future[Result] | None = None
        for item in items:
            current = thread.submit(unless_failed, last, item)
            if last is not None:
                yield last.result()
            last = current
        if last is not None:
            yield last.result()
