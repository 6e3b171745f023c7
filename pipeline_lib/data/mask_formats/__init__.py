"""Writers of masks: one module for each output, and the table that lists them (`table.py`)."""
