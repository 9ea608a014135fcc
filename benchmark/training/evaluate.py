"""What every protocol is computed from: counts, pooled and per image, and the final masks at native size.

Two classes are counted at all thresholds of the foreground's probability. Several classes have no threshold: they are
counted at the argmax, each against the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.config.schema import Evaluate
from benchmark.data.dataset import IGNORE
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.method import Method, named_logits
from benchmark.metrics.counts import THRESHOLDS, class_confusion
from benchmark.metrics.objects import object_scores, surface_distances
from benchmark.metrics.torch_counts import class_counts, confidence_counts, threshold_counts
from benchmark.numerics import Normalisation, Normaliser, Numerics
from benchmark.protocols import over_steps
from benchmark.training import device as devices
from benchmark.training.stitch import class_map


def scorable(
    prepared: PreparedData, names: Sequence[str], trained_on: Collection[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The images that a run can be scored on, and those that are left out, by reason; UserError where none is left.

    trained_on: the hashes of the images that the run learned from."""
    seen = [name for name in names if prepared.hashes[prepared.position(name)] in trained_on]
    unknown = [name for name in names if name not in seen and (prepared.masks[prepared.rows(name)] == IGNORE).all()]
    left = tuple(name for name in names if name not in seen and name not in unknown)
    if not left:
        raise UserError(f"{prepared.name}: none of {len(names)} images can be scored: the run was trained on "
                        f"{len(seen)}, and {len(unknown)} have no mask")
    return left, {"trained_on": seen, "without_mask": unknown}


class Evaluator:
    """Evaluates a method on lists of images: `test` and, where there are any, `validation`."""

    def __init__(
        self, prepared: PreparedData, lists: Mapping[str, tuple[str, ...]], settings: Evaluate,
        normalisation: Normalisation, numerics: Numerics,
    ) -> None:
        self.prepared, self.settings, self.numerics = prepared, settings, numerics
        self.normalisation, self.normalise = normalisation, Normaliser(normalisation, numerics)
        self.classes = len(prepared.classes)
        self.suffix = "_classes" if self.classes > 2 else ""  # of the names of counts at working size
        self.lists = {name: ids for name, ids in lists.items() if ids}
        self.steps: list[int] = []
        self.outputs: list[str] = []
        self.pooled: dict[str, list[np.ndarray]] = {name: [] for name in self.lists}
        self.confidence: list[np.ndarray] = []  # of pseudo-labels, on the validation images

    def images(self, names: Sequence[str]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Batches of rows of the prepared arrays, normalised images [B, 3, S, S] and masks [B, S, S].

        An image is one row, or one a tile; images follow each other.
        """
        every = self.prepared.rows_of(names)
        for start in range(0, len(every), self.settings.batch):
            rows = every[start : start + self.settings.batch]
            mask = torch.from_numpy(np.ascontiguousarray(self.prepared.masks[rows])).to(self.numerics.device)
            yield rows, self.normalise(self.prepared.images[rows]), mask

    def on(self, prepared: PreparedData, ids: tuple[str, ...]) -> Evaluator:
        """The same on images of other data, which it takes for the test images."""
        return Evaluator(prepared, {"test": ids}, self.settings, self.normalisation, self.numerics)

    @torch.inference_mode()
    def logits(self, method: Method, image: Tensor) -> dict[str, Tensor]:
        """Float32 logits by output name, in evaluation mode."""
        with self.numerics.autocast(), devices.without_tuning():
            return {name: logits.float() for name, logits in named_logits(method.predict(image)).items()}

    def check(self, method: Method, images: int = 3) -> None:
        """UserError where `predict` does not give finite logits of every class and pixel of some test images.

        images: another number than a batch has, since cuDNN keeps the kernels that it first chose for a shape.
        """
        was, size = method.training, self.prepared.size
        image = next(self.images(self.lists["test"][:images]))[1][:images]
        with torch.inference_mode(), self.numerics.autocast(), devices.without_tuning():
            answer: Any = method.eval().predict(image)
        method.train(was)
        wanted = (len(image), self.classes, size, size)
        outputs = answer if isinstance(answer, Mapping) else {"prediction": answer}
        if method.labels_from and method.labels_from not in outputs:
            raise UserError(f"labels_from is '{method.labels_from}', and predict() has no output of this name, but "
                            f"{', '.join(outputs)}")
        for name, logits in outputs.items():
            if not isinstance(logits, Tensor):
                trouble = f"is a {type(logits).__name__}, expected a tensor {wanted}"
            elif tuple(logits.shape) != wanted:
                trouble = f"has shape {tuple(logits.shape)}, expected {wanted}"
            elif not torch.isfinite(logits).all():
                trouble = "is not finite, before any training"
            else:
                continue
            raise UserError(f"predict(): output '{name}' {trouble}; give a logit of every class for every pixel")

    def predictions(self, method: Method, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each image with its logits [rows, C, S, S] by output name."""
        tiles: dict[str, list[Tensor]] = {}
        waiting = list(reversed(names))
        for _, image, _ in self.images(names):
            for output, logits in self.logits(method, image).items():
                tiles.setdefault(output, []).extend(logits)
            here = len(next(iter(tiles.values())))
            while waiting and here >= (count := len(self.prepared.rows(waiting[-1]))):
                yield waiting.pop(), {output: torch.stack(found[:count]) for output, found in tiles.items()}
                tiles = {output: found[count:] for output, found in tiles.items()}
                here -= count

    def evaluate(self, method: Method, step: int) -> dict[str, np.ndarray]:
        """One evaluation: appends pooled counts, returns counts per image {list: int64 [n, O, T, 3]}.

        T: thresholds; of several classes, all but the background. Pixels that several tiles share count in each.
        """
        was = method.training
        method.eval()
        per_image = {name: self.count(method, ids, name == "validation") for name, ids in self.lists.items()}
        for name, counts in per_image.items():
            self.pooled[name].append(counts.sum(0))
        self.steps.append(step)
        method.train(was)
        return per_image

    def last_scores(self) -> dict[str, float]:
        """Dice of the last evaluation, as in `validation/Dice/teacher`; of the test images where there are no others.
        """
        images = "validation" if "validation" in self.lists else "test"
        counts = {f"{images}_pooled{self.suffix}": np.stack(self.pooled[images][-1:]), "thresholds": THRESHOLDS}
        found = {name: over_steps(counts, images, number) for number, name in enumerate(self.outputs)}
        return {f"{images}/Dice/{name}": float(dice[0]) for name, dice in found.items() if dice is not None}

    def count(self, method: Method, ids: Sequence[str], confidence: bool = False) -> np.ndarray:
        """The counts of some images, of a method in evaluation mode: int64 [n, O, T, 3].

        confidence: also append their pixels by confidence to `self.confidence`, int64 [O, C, 2, 100].
        """
        rows, confident = [], []
        for _, image, mask in self.images(ids):
            by_output = self.logits(method, image)
            self.outputs = list(by_output)
            rows.append(torch.stack([self._counts(logits, mask) for logits in by_output.values()], 1))
            if confidence:
                confident.append(torch.stack([confidence_counts(logits, mask) for logits in by_output.values()]))
        if confidence:
            self.confidence.append(torch.stack(confident).sum(0).cpu().numpy())
        first_rows = np.cumsum([0, *(len(self.prepared.rows(each)) for each in ids[:-1])])
        return np.add.reduceat(torch.cat(rows).cpu().numpy(), first_rows)

    def _counts(self, logits: Tensor, mask: Tensor) -> Tensor:
        if self.classes > 2:
            return class_counts(logits.max(1).indices, mask, self.classes)
        return threshold_counts(1 - logits.softmax(1)[:, 0], mask)

    def finalise(self, method: Method, per_image: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The counts of a finished run, and its official test masks by id.

        Masks are [H, W], bool of two classes, class indices of several.
        """
        method.eval()
        found: dict[str, Any] = {
            "steps": np.asarray(self.steps, dtype=np.int64),
            "outputs": np.asarray(self.outputs),
        }
        if self.classes > 2:
            found["classes"] = np.asarray(self.prepared.classes[1:])
        else:
            found["thresholds"] = THRESHOLDS.astype(np.float32)
        masks: dict[str, np.ndarray] = {}
        for name, ids in self.lists.items():
            found[f"{name}_pooled{self.suffix}"] = np.stack(self.pooled[name])
            found[f"{name}_images{self.suffix}"] = per_image[name]
            found[f"{name}_ids"] = np.asarray(ids)
            if name == "validation" and len(self.confidence) == len(self.steps):  # an older checkpoint has none
                found["validation_confidence"] = np.stack(self.confidence)
            found[f"{name}_native"], extra, predicted = self._native(method, ids, objects=name == "test")
            if name == "test":
                masks = predicted
                found |= extra
                for group, values in self.prepared.groups.items():
                    found[f"test_groups_{group}"] = np.asarray([values[self.prepared.position(i)] for i in ids])
        return found, masks

    def _native(
        self, method: Method, ids: tuple[str, ...], objects: bool
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Counts of the argmax at native size, object scores where asked for, official masks.

        Counts are int64 [n, O, 3]; of several classes, [n, O, classes - 1, 3].
        """
        counts, pixels, scores, surfaces, masks = [], [], [], [], {}
        background: list[np.ndarray] = []
        for name, by_output in self.predictions(method, ids):
            truth, row = self.prepared.native_classes(name), []
            for number, tiles in enumerate(by_output.values()):
                predicted = class_map(tiles, self.prepared.boxes(name), truth.shape).cpu().numpy()
                row.append(self._of_classes(class_confusion(predicted, truth, self.classes)))
                if number == 0:
                    masks[name] = predicted if self.classes > 2 else predicted.astype(bool)
            counts.append(row)
            pixels.append(np.count_nonzero(truth != IGNORE))
            background.extend(class_confusion(masks[name], truth, 1, first=0))
            if objects and self.settings.objects:
                found = [self._objects(name, masks[name], truth, kind) for kind in range(1, self.classes)]
                scores.append(self._of_classes([each[:3] for each in found]))
                surfaces.append(self._of_classes([each[3:] for each in found]))
        extra = {"test_pixels": np.asarray(pixels, dtype=np.int64)}
        if self.classes > 2:  # of two it follows from the others
            extra["test_background"] = np.asarray(background)
        if scores:
            extra |= {"test_objects": np.asarray(scores), "test_surface": np.asarray(surfaces)}
        return np.asarray(counts, dtype=np.int64), extra, masks

    def _of_classes(self, values: Any) -> Any:
        """Values of every class but the background; of two classes the only ones, without an axis."""
        return values if self.classes > 2 else values[0]

    def _objects(self, name: str, predicted: np.ndarray, truth: np.ndarray, kind: int) -> list[float]:
        """Object F1, Dice and Hausdorff distance, HD95 and ASD of one class against the rest, where truth is known."""
        found, there = (predicted == kind) & (truth != IGNORE), truth == kind
        objects = object_scores(found, self.prepared.native(name) * there)
        distance = surface_distances(found, there)
        return [*(objects[key] for key in ("f1", "dice", "hausdorff")), distance["hd95"], distance["asd"]]

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far, as tensors and plain values."""
        pooled = {name: torch.from_numpy(np.stack(rows)) for name, rows in self.pooled.items() if rows}
        found = {"steps": list(self.steps), "outputs": list(self.outputs), "pooled": pooled}
        return found | {"confidence": [torch.from_numpy(counts) for counts in self.confidence]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.steps, self.outputs = list(state["steps"]), list(state["outputs"])
        self.confidence = [counts.numpy() for counts in state.get("confidence", ())]
        pooled = state["pooled"]
        self.pooled = {name: list(pooled[name].numpy()) if name in pooled else [] for name in self.lists}
