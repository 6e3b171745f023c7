"""Losses, sampling, the trainer and its validation, and the pretraining of `micro`."""
