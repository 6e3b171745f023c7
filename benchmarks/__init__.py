"""Measure time and memory: each module prints the tables of one section of README.md."""
