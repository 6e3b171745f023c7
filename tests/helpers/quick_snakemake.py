"""Snakemake's command with one difference: its executor for SLURM looks at the jobs every half second.

The plugin waits 10 s longer after each look that finds nothing new, which would be most of a test's time.
"""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

PAUSE = 0.5  # seconds

if __name__ == "__main__":
    Executor.next_seconds_between_status_checks = property(lambda executor: PAUSE, lambda executor, seconds: None)
    sys.exit(main())
