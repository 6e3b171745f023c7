"""Reading and writing beside the network's work."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def overlapped(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What a function makes of each item, in order, by a thread of its own.

    It is one item ahead of the caller: a reader's next result is made while the caller works on this one. And it is one
    behind the items: a writer writes one while the next item is made, which happens in the caller's thread.

    An error of the function is raised in the place of its result; the thread has ended when this generator has.
    """
    with ThreadPoolExecutor(1) as thread:
        before: Future[Made] | None = None
        for item in items:
            latest = thread.submit(function, item)
            if before is not None:
                yield before.result()
            before = latest
        if before is not None:
            yield before.result()
