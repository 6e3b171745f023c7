"""Work of two threads, and its ends."""

import threading
from collections.abc import Iterator

import pytest

from pipeline_lib.runtime.overlapped import NAME, overlapped

SECONDS = 20  # that an event may take on a busy machine


def threads() -> list[str]:
    """The names of those that have begun and not ended."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


def test_results_come_in_order() -> None:
    assert list(overlapped(lambda number: number * number, range(7))) == [0, 1, 4, 9, 16, 25, 36]
    assert list(overlapped(str, [])) == []


def test_the_next_item_is_read_while_the_caller_works_on_this_one() -> None:
    begun = [threading.Event() for _ in range(3)]
    for number in overlapped(lambda number: begun[number].set() or number, range(3)):
        for event in begun[: number + 2]:
            assert event.wait(SECONDS)


def test_an_item_is_written_while_the_next_one_is_made() -> None:
    writing, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert writing.wait(SECONDS)  # the first is being written before the second is there
        made.set()
        yield 1

    def write(number: int) -> bool:
        writing.set()
        return made.wait(SECONDS)

    assert list(overlapped(write, items())) == [True, True]


@pytest.mark.parametrize("failing", [0, 1, 4])
def test_an_error_comes_in_the_place_of_its_result(failing: int) -> None:
    results = overlapped(lambda number: 60 // (number - failing), range(5))
    for number in range(failing):
        assert next(results) == 60 // (number - failing)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_after_an_error_nothing_more_is_written() -> None:
    """Or a journal would lack a piece in its midst, and the run that resumes it a batch."""
    written = []

    def write(number: int) -> None:
        if number == 1:
            raise OSError(28, "No space left on device")
        written.append(number)

    with pytest.raises(OSError, match="No space"):
        list(overlapped(write, range(4)))
    assert written == [0]


def test_what_was_begun_is_finished_when_the_items_end_in_an_error() -> None:
    written = []

    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError):
        list(overlapped(written.append, items()))
    assert written == [0, 1]
    assert not threads()


def test_a_caller_who_leaves_ends_the_thread() -> None:
    results = overlapped(str, range(1000))
    assert next(results) == "0"
    results.close()
    assert not threads()
