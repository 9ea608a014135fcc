"""From masks to counts, and from counts to scores. Nothing here imports torch; `metrics.torch_counts` does."""

from __future__ import annotations

from benchmark.metrics.counts import IGNORE, THRESHOLDS, confusion, dice, jaccard
from benchmark.metrics.objects import object_scores
from benchmark.metrics.surfaces import surface_distances

__all__ = ["IGNORE", "THRESHOLDS", "confusion", "dice", "jaccard", "object_scores", "surface_distances"]
