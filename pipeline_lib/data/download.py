"""Download files. An interrupted transfer is resumed. A file must have the right checksum."""

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
TIMEOUT = 30  # seconds to wait for the next byte
PATIENCE = 60  # seconds after which a transfer can be too slow
SLOWEST = 1000  # bytes per second, on average over a transfer
ROOM = 200 << 20  # bytes: space on the disk that is left free if the server does not announce the size
BLOCK = 1 << 12  # bytes: at most one block is lost when a connection drops
PASSING = {429, 500, 502, 503, 504}  # answers of a server that can work a moment later

log = logging.getLogger(__name__)


def fetch(url: str, path: Path, checksum: str | None) -> None:
    """Download a file, unless it is already there.

    An interrupted transfer leaves `<path>.part`, and the next transfer continues it.

    Args:
        url: Address of the file, http or https. Redirects are followed.
        path: Path of the downloaded file. An existing file is used if its checksum is right, and is never overwritten.
        checksum: `sha256:…`, `xxh128:…` or another algorithm that pooch knows. With None, any content is accepted, and
            an existing file is kept. The caller must then check it.

    Raises:
        DownloadError: The file cannot be downloaded, or has another checksum.
    """
    if checksum is None and path.exists():
        return
    if checksum is not None and path.exists() and not _has(path, checksum):
        raise DownloadError(
            f"{path.resolve()}: expected the checksum {checksum}, but the file has another one. Remove it, or replace "
            f"it by {url}"
        )
    downloader = partial(_download, part=path.with_name(f"{path.name}.part"))
    try:
        if checksum is None:  # pooch would log that the checksum should be copied into the code
            path.parent.mkdir(parents=True, exist_ok=True)
            downloader(url, str(path), None)
        else:
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=downloader)
    except requests.RequestException as error:
        raise DownloadError(
            f"{url} cannot be downloaded ({error}). Try again. Without a network, save it by hand as {path.name} in "
            f"the folder {path.parent.resolve()}{f'; its checksum is {checksum}' if checksum else ''}."
        ) from error
    except ValueError as error:
        raise DownloadError(
            f"{url} sent another file than expected, which was deleted ({error}). Try again, or correct the checksum"
        ) from error


def unpack(archive: Path) -> None:
    """Unpack `name.zip` into the folder `name` beside it.

    Raises:
        DataError: The file is not a zip archive, is damaged or encrypted, or holds more than the disk has room for.
    """
    if archive.suffix != ".zip" or not is_zipfile(archive):
        raise DataError(f"{archive}: expected a .zip archive, because `unpack` is true. Set `unpack: false`")
    with atomic(archive.with_suffix("")) as folder, intact(archive), ZipFile(archive) as content:
        needed, free = sum(entry.file_size for entry in content.infolist()), disk_usage(archive.parent).free
        if needed > free:
            raise DataError(
                f"{archive}: expected {needed >> 20} MB of free space to unpack it, found {free >> 20} MB. Make room"
            )
        content.extractall(folder)


def _has(path: Path, checksum: str) -> bool:
    algorithm, expected = checksum.split(":")
    return str(pooch.file_hash(str(path), algorithm)) == expected


def _download(url: str, output: str, _: object, *, part: Path) -> None:
    """Download a file in several attempts to `part`, then rename it to `output`. pooch calls this function."""
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
    """Append the missing bytes to `part`, or write it anew if the server does not support ranges."""
    size = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # ranges of a compressed stream would not be ranges of the file
    if size:
        headers["Range"] = f"bytes={size}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if size and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the checksum shows whether this is the file
        response.raise_for_status()
        start = size if response.headers.get("Content-Range", "").startswith(f"bytes {size}-") else 0
        _write(response, part, start)


def _write(response: requests.Response, part: Path, start: int) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    start_time, received, free = time.monotonic(), 0, disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise OSError(ENOSPC, f"the server announces {total - start:,} bytes, but only {free:,} are free", str(part))
    bar = tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, mininterval=10)
    with part.open("ab" if start else "wb") as file, bar:
        for block in response.iter_content(BLOCK):
            file.write(block)
            bar.update(len(block))
            received += len(block)
            elapsed = time.monotonic() - start_time
            if elapsed > PATIENCE and received < SLOWEST * elapsed:
                raise requests.ConnectionError(f"only {received:,} bytes came in {elapsed:.0f} s")
            if total is None and disk_usage(part.parent).free < ROOM:
                raise OSError(ENOSPC, f"{received:,} bytes have come, and the server sends more", str(part))
