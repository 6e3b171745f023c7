"""Journals survive their process, whole lines only, and belong to one process at a time."""

import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from pipeline_lib.runtime.hashing import key_of
from pipeline_lib.runtime.journal import Journal


@pytest.fixture
def path(tmp_path):
    """A journal of two pieces, in a folder that it makes."""
    path = tmp_path / "folder/journal"
    with Journal(path, "key") as journal:
        journal.add({"images": [1, 2]})
        journal.add("second")
    return path


def pieces(path, key="key"):
    with Journal(path, key) as journal:
        assert len(journal) == len(list(journal))
        return list(journal)


def test_pieces_come_back_in_order(path):
    assert pieces(path) == [{"images": [1, 2]}, "second"]


def test_pieces_are_added_behind_those_that_were_kept(path):
    with Journal(path, "key") as journal:
        journal.add("third")
        assert len(journal) == 3
    assert pieces(path)[1:] == ["second", "third"]


@pytest.mark.parametrize("lost", [1, 2, 9])
def test_a_torn_last_line_is_cut_off(path, lost):
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal(path, "key") as journal:
        assert len(journal) == 1
        journal.add("again")
    assert pieces(path) == [{"images": [1, 2]}, "again"]


def test_a_damaged_line_and_what_follows_is_made_again(path, caplog):
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + second + first.replace(b"{", b"\xff") + second)
    assert pieces(path) == [{"images": [1, 2]}, "second"]
    assert "piece 2 is damaged" in caplog.text
    assert path.read_bytes() == head + first + second


def test_a_torn_first_line_is_no_journal(path):
    path.write_bytes(path.read_bytes()[:5])
    assert pieces(path) == []


def test_another_key_starts_anew(path):
    assert pieces(path, "other") == []
    assert pieces(path, "key") == []


def test_cleared_and_deleted(path):
    with Journal(path, "key") as journal:
        journal.clear()
        journal.add("anew")
        assert list(journal) == ["anew"]
        journal.delete()
    assert not path.exists()


def test_numbers_of_numpy_keep_their_value(path):
    with Journal(path, "key") as journal:
        journal.add({"single": np.float32(0.1), "whole": np.int64(7), "none": float("nan")})
    (*_, piece) = pieces(path)
    assert (np.float32(piece["single"]), piece["whole"]) == (np.float32(0.1), 7)
    assert np.isnan(piece["none"])


def test_a_second_process_on_the_same_job_is_refused(path):
    code = (
        "import sys; from pipeline_lib.runtime import journal as j; j.LOCK_SECONDS = 0; j.Journal(sys.argv[1], 'key')"
    )
    with Journal(path, "key"):
        second = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"DataError: {path}: another process is working on the same job" in second.stderr
    assert pieces(path) == [{"images": [1, 2]}, "second"]


def test_keys_tell_values_apart_and_not_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len({key_of(1), key_of("1"), key_of(1, 2), key_of([1, 2])}) == 4


def test_who_waited_for_a_finished_job_begins_a_journal_of_its_own(path):
    code = """
import sys
from pipeline_lib.runtime.journal import Journal
with Journal(sys.argv[1], 'key') as own:
    print(len(own))
"""
    with Journal(path, "key") as journal:
        second = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        while str(path) not in [file.path for file in psutil.Process(second.pid).open_files()]:
            assert second.poll() is None
            time.sleep(0.01)
        journal.delete()
    assert second.communicate()[0] == "0\n"
    assert path.exists()
