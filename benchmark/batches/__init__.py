"""Batches: the random plan of each one, and the pixels that the device renders from it."""
