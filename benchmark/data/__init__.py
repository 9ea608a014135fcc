"""The data sets: raw files, prepared arrays, splits. Nothing here imports torch."""
