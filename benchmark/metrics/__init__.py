"""From masks to counts, and from counts to scores. Nothing here imports torch; `metrics.torch_counts` does."""

from benchmark.metrics.counts import IGNORE, THRESHOLDS, class_confusion, dice, jaccard, over_classes, precision, recall
from benchmark.metrics.objects import object_scores, surface_distances

__all__ = [
    "IGNORE", "THRESHOLDS", "class_confusion", "dice", "jaccard", "object_scores", "over_classes", "precision",
    "recall", "surface_distances",
]
