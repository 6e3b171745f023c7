"""Files are downloaded from a real server on this machine, which can misbehave on request."""

import hashlib
import io
import shutil
import zipfile

import numpy as np
import pytest
import xxhash
from helpers.file_server import FileServer, serving

from pipeline_lib.data import download
from pipeline_lib.data.download import fetch, unpack
from pipeline_lib.errors import DataError, DownloadError

CONTENT = np.random.default_rng(0).bytes(500_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server(monkeypatch):
    with serving({"/file": CONTENT}, monkeypatch) as running:
        yield running


@pytest.fixture
def nobody(server):
    """Return an address where no server listens."""
    with FileServer({}) as gone:
        return f"{gone.url}/file"


def is_there_alone(path):
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return True


def test_a_file_is_fetched(server, tmp_path):
    fetch(f"{server.url}/file", tmp_path / "new" / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "new" / "a.bin")


def test_xxh128_is_a_checksum(server, tmp_path):
    fetch(f"{server.url}/file", tmp_path / "a.bin", f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}")
    assert is_there_alone(tmp_path / "a.bin")


def test_a_redirect_is_followed(server, tmp_path):
    fetch(f"{server.url}/moved", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_a_file_put_there_by_hand_needs_no_network(nobody, tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    fetch(nobody, tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_a_server_that_is_busy_is_asked_again(server, tmp_path):
    server.faults = [503, 503]
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_a_server_that_stays_busy_is_an_error(server, tmp_path):
    server.faults = [503, 503, 503]
    with pytest.raises(DownloadError, match="503"):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_found_is_asked_for_once(server, tmp_path):
    server.faults = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert len(server.ranges) == 1


def test_a_dropped_connection_is_resumed_where_it_broke_off(server, tmp_path):
    server.faults = [(300_000,)]
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")
    first, second = server.ranges
    assert first is None
    assert 300_000 - download.BLOCK < int(second.removeprefix("bytes=").removesuffix("-")) <= 300_000


def test_a_part_that_an_interrupted_run_left_is_continued(server, tmp_path):
    server.faults = [(200_000,), (0,), (0,)]
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    (part,) = tmp_path.iterdir()
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")
    assert part.name == "a.bin.part"
    assert server.ranges[-1] not in (None, "bytes=0-")


def test_a_part_that_is_already_whole_is_taken(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_a_server_without_ranges_sends_everything_anew(server, tmp_path):
    server.knows_ranges = False
    server.faults = [(300_000,)]
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_another_checksum_is_an_error_and_leaves_nothing(server, tmp_path):
    server.files["/file"] = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"(?s){server.url}/file.*a\.bin.*{SHA256}"):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_part_of_another_file_is_given_up_for_a_fresh_one(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"!" * 1000)
    with pytest.raises(DownloadError):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)
    assert is_there_alone(tmp_path / "a.bin")


def test_without_a_checksum_any_content_is_accepted_and_kept(server, tmp_path):
    server.faults = [(300_000,)]
    fetch(f"{server.url}/file", tmp_path / "new" / "a.bin", None)
    assert is_there_alone(tmp_path / "new" / "a.bin")
    requests = len(server.ranges)
    fetch(f"{server.url}/file", tmp_path / "new" / "a.bin", None)
    assert len(server.ranges) == requests == 2


def test_without_a_checksum_and_network_the_error_names_no_checksum(nobody, tmp_path):
    with pytest.raises(DownloadError, match=rf"save it by hand as a\.bin in the folder {tmp_path}\.$"):
        fetch(nobody, tmp_path / "a.bin", None)


def test_without_network_the_error_says_what_to_put_where(nobody, tmp_path):
    with pytest.raises(DownloadError, match=rf"{nobody} .* save it by hand as a\.bin in the folder {tmp_path};"):
        fetch(nobody, tmp_path / "a.bin", SHA256)
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_put_there_by_hand_is_kept_and_named(nobody, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"a\.bin: expected the checksum .*, but the file has another one"):
        fetch(nobody, tmp_path / "a.bin", SHA256)
    assert (tmp_path / "a.bin").read_bytes() == b"something else"


def test_an_archive_is_unpacked_into_the_folder_of_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "vnc.zip", "w") as archive:
        archive.writestr("stack/raw/00.tif", CONTENT)
    unpack(tmp_path / "vnc.zip")
    unpack(tmp_path / "vnc.zip")  # as a repeated run does
    assert (tmp_path / "vnc" / "stack" / "raw" / "00.tif").read_bytes() == CONTENT


def test_something_else_than_an_archive_is_an_error(tmp_path):
    (tmp_path / "vnc.zip").write_bytes(CONTENT)
    with pytest.raises(DataError, match=r"vnc\.zip: expected a \.zip archive"):
        unpack(tmp_path / "vnc.zip")


def test_a_damaged_archive_leaves_nothing(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", CONTENT)
        archive.writestr("b", CONTENT)
    damaged = bytearray(packed.getvalue())
    damaged[700_000] ^= 1
    (tmp_path / "vnc.zip").write_bytes(damaged)
    with pytest.raises(DataError, match=r"vnc\.zip: missing or damaged"):
        unpack(tmp_path / "vnc.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["vnc.zip"]


def test_a_server_that_hardly_sends_is_not_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0)
    monkeypatch.setattr(download, "SLOWEST", 1e15)  # what is fast here would be slow then
    with pytest.raises(DownloadError, match=r"only [\d,]+ bytes came in 0 s"):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)


def test_a_server_without_end_does_not_fill_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROOM", shutil.disk_usage(tmp_path).free - 10_000_000)
    with pytest.raises(OSError, match=r"bytes have come, and the server sends more.*a\.bin\.part"):
        fetch(f"{server.url}/endless", tmp_path / "a.bin", SHA256)
    assert (tmp_path / "a.bin.part").stat().st_size < 100_000_000


def test_more_than_the_disk_holds_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OSError, match=r"the server announces .* bytes, but only 1 are free.*a\.bin\.part"):
        fetch(f"{server.url}/file", tmp_path / "a.bin", SHA256)


def test_an_archive_that_unpacks_to_more_than_the_disk_holds_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1000))
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")  # 4 GB unpacked, as the list of contents says
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "disk_usage", lambda _: shutil._ntuple_diskusage(2**32, 0, 2**31))
        with pytest.raises(DataError, match=r"bomb\.zip: expected 4095 MB of free space to unpack it, found 2048 MB"):
            unpack(tmp_path / "bomb.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bomb.zip"]


def test_an_encrypted_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("a", CONTENT[:1000])
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # the bit that says so
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"locked\.zip: .*password"):
        unpack(tmp_path / "locked.zip")
