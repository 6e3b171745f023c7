"""Losses, sampling, the trainer and its validation; how `micro` was pretrained."""
