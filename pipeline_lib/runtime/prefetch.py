"""Reading before, and writing behind, while the main thread computes: NumPy, Zarr and PIL let other threads go on."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` makes of each item, in order; while one is in use, a thread makes the next, and no more than that."""
    with ThreadPoolExecutor(1) as thread:
        coming: Future[Made] | None = None
        for item in items:
            made, coming = coming, thread.submit(make, item)
            if made is not None:
                yield made.result()
        if coming is not None:
            yield coming.result()


@contextmanager
def write_behind() -> Iterator[Callable[..., None]]:
    """A function that has a thread make a call, once the thread is done with the call before.

    An error in the thread is raised by the next call or on leaving. However one leaves, the last call is done by then.
    """
    with ThreadPoolExecutor(1) as thread:
        last: Future[None] = thread.submit(lambda: None)

        def meanwhile(call: Callable[..., None], *arguments: Any) -> None:
            nonlocal last
            last.result()
            last = thread.submit(call, *arguments)

        yield meanwhile
        last.result()
