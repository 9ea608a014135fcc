"""Checks of what a method does with data: what it may not see, what it may not change, and masks that are extreme."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmark.batches.batch import Batch
from benchmark.batches.plan import MIXED
from benchmark.conformance.testbed import Failure, MethodTestbed, advance, differences, frozen, not_finite
from benchmark.data.store import PreparedData, arrays_fingerprint
from benchmark.files import sha256, write_arrays, write_json
from benchmark.losses import IGNORE
from benchmark.targets import TARGETS
from benchmark.training.setup import phase_spans


def hidden_masks_and_test_images_are_unused(testbed: MethodTestbed) -> None:
    """Masks of images outside the labelled list, and images for testing, change no weight, in memory or on the disk."""
    reference = testbed.reference  # made before anything is scrambled
    known, trained = set(testbed.split.labelled), {*testbed.split.labelled, *testbed.split.unlabelled}
    masks, images = ([n for n in testbed.prepared.ids if n not in shown] for shown in (known, trained))
    for hidden, shown, what in (
        (masks, images, ""), (masks, [], "the masks of images whose labels are hidden"),
        ([], images, "images that are for testing"),
    ):
        with scrambled(testbed.prepared, hidden, shown) as prepared:
            changed = differences(reference, testbed.final_state(prepared))
        if not changed and not what:
            return
        if changed and what:
            raise Failure(f"'{changed[0]}' depends on {what}: a method may use only its task and its batches")


@contextmanager
def scrambled(prepared: PreparedData, masks: list[str], images: list[str]) -> Iterator[PreparedData]:
    """The data with these masks turned and inverted and these images as negatives, in a prepared folder of its own,
    which whoever opens it finds undamaged."""
    changed = replace(prepared, masks=np.array(prepared.masks), images=np.array(prepared.images))
    for row in prepared.rows_of(masks):
        changed.masks[row] = changed.masks[row][::-1, ::-1] ^ 1
    for row in prepared.rows_of(images):
        changed.images[row] = 255 - changed.images[row]
    with tempfile.TemporaryDirectory(prefix="semihisto-check-") as root:
        folder = Path(root, *prepared.folder.parts[-2:])
        shutil.copytree(prepared.folder, folder)
        np.save(folder / "masks.npy", changed.masks)
        np.save(folder / "images.npy", changed.images)
        inverted = {*masks, *(f"{name}.classes" for name in masks)}
        with open(folder / "native.npz", "wb") as stream:
            write_arrays(stream, {name: (array == 0).astype(array.dtype) if name in inverted else array
                                  for name, array in prepared.native_masks.items()})
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        write_json(folder / "index.json", index | {
            "arrays_fingerprint": arrays_fingerprint(changed.ids, changed.images, changed.masks),
            "native_sha256": sha256(folder / "native.npz"),
        })
        with mock.patch.dict(os.environ, SEMIHISTO_PREPARED=root):
            yield replace(changed, folder=folder)


def batches_are_not_modified(testbed: MethodTestbed) -> None:
    """No tensor of a batch is changed in place: others use it, too."""
    training = testbed.build_eager()
    training.enter_step(0)
    batches = training.step.batches(training.plans(0, 1)[0])
    before = {stream: frozen(batch.tensors) for stream, batch in batches.items()}
    training.step.learn(batches)
    for stream, batch in batches.items():
        for name in differences(before[stream], batch.tensors):
            raise Failure(f"losses() changes {stream}.{name} in place; work on a copy, as in {stream}.{name} * 1.0")


def empty_full_ignored_masks_are_finite(testbed: MethodTestbed) -> None:
    """Labelled masks that are all background, all foreground or all ignored give finite losses, in every phase."""
    for kind, value in (("background", 0), ("foreground", 1), ("ignored", IGNORE)):
        training = testbed.build(replace(testbed.prepared, masks=np.full_like(testbed.prepared.masks, value)))
        for steps in phase_spans(training.method.phases, training.steps).values():
            if steps:
                training.clock.step.fill_(steps[-1])
                (row,) = advance(training, steps[-1], 1)
                require_finite(row, not_finite(training.method), f"at step {steps[-1] + 1} where every pixel is {kind}")


def unknown_pixels_are_no_class(testbed: MethodTestbed) -> None:
    """A loss that tells background from foreground takes pixels that are unknown (255) for neither, in every phase."""
    training = testbed.build_eager()
    method, step = training.method, training.step
    for steps in phase_spans(method.phases, training.steps).values():
        if not steps:
            continue
        advance(training, steps.start, 1)
        batches, before, found = step.batches(training.plans(steps.start, 1)[0]), frozen(method.state_dict()), []
        batch: Batch = batches["labelled"]
        for value in (0, 1, IGNORE):
            mask = batch.mask.clone()
            mask[:, : mask.shape[-1] // 2] = value
            fields: dict[str, Any] = {**batch.tensors, "mask": mask}
            fields |= {name: TARGETS[name](mask).to(fields[name].dtype) for name in method.targets}
            shown = Batch(boxes=batch.boxes, **fields)
            method.load_state_dict(before)
            torch.manual_seed(0)
            parts = step.parts(batches | {"labelled": shown})
            found.append({name: term.item() for part in parts for name, term in part.items()})
        for name, background in found[0].items():
            for what, known in (("background", background), ("foreground", found[1][name])):
                if background != found[1][name] and found[2][name] == known:
                    raise Failure(f"losses(): '{name}' takes unknown pixels (255) for {what}; leave them out")


def require_finite(row: Mapping[str, float], what: str | None, where: str) -> None:
    """Failure where a term of `row` is not finite, or where `what` names a parameter or gradient that is not."""
    for name, value in row.items():
        if not np.isfinite(value):
            raise Failure(f"losses(): '{name}' is {value} {where}")
    if what is not None:
        raise Failure(f"{what} is not finite {where}, though the losses are")


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
                              f"takes no label through unlabelled.cutmix('{view}', ...); a method that only compares "
                              "strong views with each other sets mixes_labels = False")


class _AskedFor(dict[str, Tensor]):
    """A batch's rectangles, which remember whose were asked for."""

    def __init__(self, boxes: Mapping[str, Tensor]) -> None:
        super().__init__(boxes)
        self.asked_for: set[str] = set()

    def get(self, view: str, default: Any = None) -> Any:
        self.asked_for.add(view)
        return super().get(view, default)
