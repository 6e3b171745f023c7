"""Files from the network: resumed where they broke off, accepted only with the right checksum."""

import logging
import os
import time
from errno import ENOSPC
from functools import partial
from pathlib import Path
from shutil import disk_usage
from zipfile import ZipFile, is_zipfile

import pooch
import requests
from tqdm import tqdm

from pipeline_lib.errors import DataError, DownloadError, intact
from pipeline_lib.runtime.atomic import atomic

BACK_OFF = (1.0, 2.0, 4.0, 8.0)  # seconds to wait before each further attempt
TIMEOUT = 30  # seconds without a byte
PATIENCE, SLOWEST = 60, 1000  # after so many seconds, at least so many bytes per second must have come on average
ROOM = 200 << 20  # bytes that a download leaves free whose server does not say how many it sends
BLOCK = 1 << 12  # bytes; at most so many are lost when a connection drops
PASSING = {429, 500, 502, 503, 504}  # what a server answers when it may know better in a moment

log = logging.getLogger(__name__)


def fetch(url: str, path: Path, checksum: str | None) -> None:
    """Make sure that `path` is the file with this checksum, from the network where it is not there already.

    A transfer that breaks off leaves `<path>.part`, which the next one continues.

    Args:
        url: Where the file comes from, http or https; redirects are followed.
        path: Where it goes. A file that was put there by hand is taken if its checksum is right, and never overwritten.
        checksum: `sha256:…`, `xxh128:…` or another algorithm that pooch knows. With None, any content is accepted, and
            an existing file is kept: the caller must check it.

    Raises:
        DownloadError: The file cannot be fetched, or what came has another checksum.
    """
    if checksum is None and path.exists():
        return
    if checksum is not None and path.exists() and not _has(path, checksum):
        raise DownloadError(
            f"{path.resolve()}: the file that is there has another checksum than {checksum}; remove it or put "
            f"that of {url} there"
        )
    downloader = partial(_download, part=path.with_name(f"{path.name}.part"))
    try:
        if checksum is None:  # pooch would tell the user to copy the checksum into the code
            path.parent.mkdir(parents=True, exist_ok=True)
            downloader(url, str(path), None)
        else:
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=downloader)
    except requests.RequestException as error:
        raise DownloadError(
            f"{url} cannot be fetched ({error}). Without network, save it by hand as {path.name} in the folder "
            f"{path.parent.resolve()}{f'; its checksum is {checksum}' if checksum else ''}."
        ) from error
    except ValueError as error:
        raise DownloadError(f"{url} gave another file than expected, which was deleted: {error}") from error


def unpack(archive: Path) -> None:
    """Unpack `name.zip` into the folder `name` beside it.

    Raises:
        DataError: The file is not a zip archive, is damaged or encrypted, or holds more than the disk has room for.
    """
    if archive.suffix != ".zip" or not is_zipfile(archive):
        raise DataError(f"{archive}: a .zip archive is expected where `unpack` is true")
    with atomic(archive.with_suffix("")) as folder, intact(archive), ZipFile(archive) as content:
        needed, free = sum(entry.file_size for entry in content.infolist()), disk_usage(archive.parent).free
        if needed > free:
            raise DataError(f"{archive}: {needed >> 20} MB unpacked are announced, but only {free >> 20} MB are free")
        content.extractall(folder)


def _has(path: Path, checksum: str) -> bool:
    algorithm, expected = checksum.split(":")
    return str(pooch.file_hash(str(path), algorithm)) == expected


def _download(url: str, output: str, _: object, *, part: Path) -> None:
    """A downloader as pooch wants it: fill `part`, in several attempts if need be, then hand it over as `output`."""
    for wait in (*BACK_OFF, None):
        try:
            _continue(url, part)
            break
        except requests.RequestException as error:
            if wait is None or not _may_pass(error):
                raise
            log.warning("%s: %s; next attempt in %g s", url, error, wait)
            time.sleep(wait)
    os.replace(part, output)


def _may_pass(error: requests.RequestException) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in PASSING
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _continue(url: str, part: Path) -> None:
    """Append to `part` what it still lacks, or write it anew where the server does not know ranges."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # ranges of a compressed stream would not be ranges of the file
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # there is nothing left; the checksum tells whether this is the file
        response.raise_for_status()
        start = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        _write(response, part, start)


def _write(response: requests.Response, part: Path, start: int) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    began, have, free = time.monotonic(), 0, disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise OSError(ENOSPC, f"{total - start:,} bytes are announced, {free:,} are free", str(part))
    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, mininterval=10)
    with part.open("ab" if start else "wb") as file, bar:
        for block in response.iter_content(BLOCK):
            file.write(block)
            bar.update(len(block))
            have += len(block)
            waited = time.monotonic() - began
            if waited > PATIENCE and have < SLOWEST * waited:
                raise requests.ConnectionError(f"only {have:,} bytes came in {waited:.0f} s")
            if total is None and disk_usage(part.parent).free < ROOM:
                raise OSError(ENOSPC, f"{have:,} bytes have come, and there is no end of it", str(part))
