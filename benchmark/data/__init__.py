"""Data: raw files to prepared arrays, splits, plans and rendered batches. Nothing here imports torch but render."""
