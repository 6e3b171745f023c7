"""Read files of boxes: one module for each format. `table.py` lists them."""
