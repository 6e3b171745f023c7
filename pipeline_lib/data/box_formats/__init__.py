"""Read files of boxes: `table.py` finds the format of a file, and each format has a module that reads it."""
