"""The log of a job."""

import logging
import os
import sys
from pathlib import Path


def log_to(path: str) -> None:
    """Send everything this process and its libraries print to `path`, tracebacks and C libraries included.

    Snakemake's `script:` leaves both streams on the console and the rule's log empty, hence the descriptors.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
