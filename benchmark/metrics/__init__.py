"""From masks to counts, and from counts to scores. Nothing here imports torch; `metrics.torch_counts` does."""
