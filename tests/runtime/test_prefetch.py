"""Reading ahead and writing behind, in threads."""

import time

import pytest

from pipeline_lib.runtime.prefetch import prefetch, write_behind


def test_one_item_is_made_ahead_and_no_more():
    made = []
    items = prefetch(lambda item: made.append(item) or item, range(4))
    for item in items:
        last = min(item + 1, 3)
        while made[-1] < last:  # its thread is at work
            time.sleep(0.001)
        time.sleep(0.01)
        assert made == list(range(last + 1))
    assert made == [0, 1, 2, 3]


def test_an_error_ahead_is_raised_in_its_turn():
    items = prefetch(lambda item: 1 / item, [1, 0])
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_calls_behind_are_made_in_order_and_done_on_leaving():
    done = []
    with write_behind() as meanwhile:
        for item in range(3):
            meanwhile(lambda item: (time.sleep(0.01), done.append(item)), item)
            assert len(done) >= item
    assert done == [0, 1, 2]


def test_a_call_behind_is_done_where_one_leaves_by_an_error():
    done = []

    def leave():
        with write_behind() as meanwhile:
            meanwhile(lambda: (time.sleep(0.01), done.append(0)))
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert done == [0]


def test_an_error_behind_is_raised_in_place_of_the_next_call():
    made = []

    def call_twice():
        with write_behind() as meanwhile:
            meanwhile(lambda: 1 / 0)
            meanwhile(made.append, "second")

    with pytest.raises(ZeroDivisionError):
        call_twice()
    assert not made


def test_an_error_behind_is_raised_on_leaving():
    def leave():
        with write_behind() as meanwhile:
            meanwhile(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        leave()
