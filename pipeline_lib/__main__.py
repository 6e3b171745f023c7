"""`python -m pipeline_lib`: the command `loosebox`."""

from pipeline_lib.cli import main

main()
