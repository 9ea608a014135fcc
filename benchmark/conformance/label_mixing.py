"""Whether labels go through CutMix as the images did that they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from benchmark.batches.batch import Batch
from benchmark.batches.plan import MIXED
from benchmark.conformance.testbed import Failure, MethodTestbed
from benchmark.training.phases import phase_spans


def labels_are_mixed(testbed: MethodTestbed) -> None:
    """Where a loss depends on an unlabelled view that CutMix changes, something goes through `cutmix` of that view."""
    training = replace(testbed, spec=testbed.spec.with_values({"augment.cutmix": 1.0})).build_eager()
    method, step = training.method, training.step
    if "unlabelled" not in method.views or not method.mixes_labels:
        return
    for first in {steps.start for steps in phase_spans(method.phases, training.steps).values()}:
        training.locate(first)
        batches = step.batches(training.plans(first, 1)[0])
        images: Batch = batches["unlabelled"]
        images.boxes = boxes = _AskedFor(images.boxes)
        views = {view: images.tensors[view].requires_grad_() for view in MIXED if view in images.tensors}
        step.learn(batches)
        for view, tensor in views.items():
            if tensor.grad is not None and view not in boxes.asked_for:
                raise Failure(f"losses() learns from unlabelled.{view}, into which CutMix pastes other images, and "
                              f"takes no label through unlabelled.cutmix('{view}', ...); or set mixes_labels = False")


class _AskedFor(dict[str, Tensor]):
    """A batch's rectangles, which remember whose were asked for."""

    def __init__(self, boxes: Mapping[str, Tensor]) -> None:
        super().__init__(boxes)
        self.asked_for: set[str] = set()

    def get(self, view: str, default: Any = None) -> Any:
        self.asked_for.add(view)
        return super().get(view, default)
