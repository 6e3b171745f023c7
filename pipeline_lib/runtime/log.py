"""Write the log of a job."""

import logging
import os
import sys
from pathlib import Path


def log_to(path: str) -> None:
    """Send everything that this process prints to the file `path`, including tracebacks and prints of C libraries.

    Snakemake's `script:` does not redirect these streams to the log of a rule. C libraries need the redirection of file
    descriptors.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
