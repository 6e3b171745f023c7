"""Boxes to masks, and masks to boxes until they settle."""
