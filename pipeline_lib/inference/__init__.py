"""Predict masks from boxes, iterate them, and follow objects through slices."""
