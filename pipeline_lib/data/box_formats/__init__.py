"""Readers of box files: one module for each format, and the table that lists them (`table.py`)."""
