#!/usr/bin/env bash
# Jobs in this environment import pipeline_lib, from the folder Snakemake runs in.
set -euo pipefail
python -m pip install --no-deps --editable .
