"""A finished run's strict scores on images of any data set of its classes, kept beside the records, never in them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.dataset import Dataset, check_colours
from benchmark.data.load import check_masks, load_prepared
from benchmark.data.splits import check_split_matches_data, load_split, split_names
from benchmark.data.store import PreparedData, scales_differ
from benchmark.errors import UserError
from benchmark.files import (
    check_writable,
    remove_unfinished,
    set_aside,
    sha256,
    write_arrays,
    write_atomically,
    write_json,
)
from benchmark.models.load import Finished
from benchmark.protocols import scores
from benchmark.training import device as devices
from benchmark.training.evaluate import Evaluator, scorable
from benchmark.training.model_file import Model

SCHEMA = 1
VALUES = range(2, 7)  # so many values of a group make a column each
STRICT = {"test_native", "test_objects", "test_surface", "classes"}  # the counts that the strict protocol reads
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Which images: those of a fold of a split that are for testing, or `all` that the data set has."""

    dataset: Dataset
    split: str
    fold: int
    sets: str  # test, all
    objects: bool


def evaluate(
    finished: Finished, wanted: Wanted, results: Path, *, raw: str | None = None, overwrite: bool = False,
    command: str = "",
) -> tuple[dict[str, Any], Path, bool]:
    """The evaluation, its file, and whether it existed already.

    Images that the run was trained on, and those without any truth, are left out. UserError where classes differ, where
    no image is left, and where an evaluation of other weights or images exists (unless `overwrite`).
    """
    model, classes = finished.model, wanted.dataset.classes
    check_masks(wanted.dataset)
    if tuple(classes) != model.classes:
        raise UserError(f"class mismatch: the model has the classes {', '.join(model.classes)}; {wanted.dataset.name} "
                        f"has {', '.join(classes)}. Both need the same names in the same order")
    check_colours(wanted.dataset, model.decoding, "the model was trained on images")
    if wanted.sets == "test" and not split_names(wanted.dataset):
        raise UserError(f"{wanted.dataset.name} has no splits: make them with 'data split', or score all its images "
                        "with --sets all")
    prepared = load_prepared(wanted.dataset, model.size, raw=raw)
    prepared = prepared if wanted.sets == "all" else prepared.part(wanted.split)
    ids, left_out = chosen(prepared, wanted, set(model.trained_on))
    warn_of_scale(model, prepared.native_size(ids))
    content: dict[str, Any] = {
        "schema": SCHEMA, "run_id": model.run_id, "weights_sha256": model.weights_sha256,
        "dataset": prepared.name, "split": wanted.split, "fold": wanted.fold, "sets": wanted.sets,
        "objects": wanted.objects, "images": list(ids), "left_out": left_out, "size": model.size,
        "fingerprint": prepared.fingerprint, "arrays_fingerprint": prepared.arrays_fingerprint,
    }
    path = file_of(results, content)
    if path.exists() and not overwrite:
        there, unused = read(path), ("split", "fold") if wanted.sets == "all" else ()
        for key, value in content.items():
            if there.get(key) != value and key not in unused:
                raise UserError(f"{path}: an evaluation with another {key} exists; --overwrite renames it and "
                                "evaluates anew")
        return there, path, True
    check_writable(path.parent)
    counts = counts_of(finished, prepared, ids, wanted.objects)
    content |= {
        "scores": {"strict": scores(counts)["strict"]}, "groups": by_group(counts, prepared, ids),
        "environment": devices.environment(finished.numerics.device), "command": command,
    }
    if path.exists():
        set_aside(path.with_suffix(".npz"), path)
    remove_unfinished(path.parent, f"{path.stem}.")
    arrays = path.with_suffix(".npz")  # written first, then the file that holds their digest
    write_atomically(arrays, lambda stream: write_arrays(stream, counts))
    write_json(path, content | {"counts_sha256": sha256(arrays)})
    return read(path), path, False


def chosen(
    prepared: PreparedData, wanted: Wanted, trained_on: set[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The images to evaluate, and those that are left out, by reason; UserError where none is left."""
    if wanted.sets != "test":
        return scorable(prepared, prepared.ids, trained_on)
    split = load_split(wanted.dataset, wanted.split, 100, wanted.fold)
    check_split_matches_data(split, prepared)
    return scorable(prepared, split.test, trained_on)


def warn_of_scale(model: Model, here: tuple[int, int]) -> None:
    """Warn where what is resized is of another size here (H, W) than in training, so that tissue looks otherwise."""
    there, advice = model.native_size, ""
    if scales_differ(here, there):
        if model.tile:
            size, overlap = model.tile
            advice = f"; tile: {{size: {size}, overlap: {overlap}}} in dataset.yaml cuts images as in training"
        logger.warning("image scale differs from training: before resizing to %d px, images have %d x %d px here "
                       "(median) and had %d x %d px in training%s", model.size, *here[::-1], *there[::-1], advice)


def counts_of(finished: Finished, prepared: PreparedData, ids: tuple[str, ...], objects: bool) -> dict[str, Any]:
    """The counts of the official output on these images, as a run's own evaluator makes them."""
    settings = replace(finished.model.spec.section("evaluate"), objects=objects)
    evaluator = Evaluator(prepared, {"test": ids}, settings, finished.model.normalisation, finished.numerics)
    counts, _ = evaluator.finalise(finished.method, evaluator.evaluate(finished.method, 0))
    return counts


def by_group(counts: dict[str, Any], prepared: PreparedData, ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Strict scores of the images with each value of each group, such as the grade; patients are too many, and a
    slide's number counts within its patient."""
    found: dict[str, dict[str, Any]] = {}
    for group, values in prepared.groups.items():
        mine = np.asarray([values[prepared.position(name)] for name in ids])
        kinds = sorted(set(mine.tolist()))
        if group not in ("patient", "slide") and len(kinds) in VALUES:
            for kind in kinds:
                some = {key: counts[key] if key == "classes" else counts[key][mine == kind]
                        for key in STRICT & counts.keys()}
                found.setdefault(group, {})[kind] = scores(some)["strict"]
    return found


def file_of(results: Path, content: dict[str, Any]) -> Path:
    """Where an evaluation is kept: a folder for each run, a name for each choice of images and scores."""
    parts = [content["dataset"]]
    parts += ["all"] if content["sets"] == "all" else [content["split"], f"f{content['fold']}"]
    parts += ["objects"] if content["objects"] else []
    return results / "evaluations" / content["run_id"] / f"{'-'.join(parts)}.json"


def read(path: Path) -> dict[str, Any]:
    """One evaluation; UserError where it is damaged, or of another schema."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] == SCHEMA:
            return content
        cause = f"schema {content['schema']}, not {SCHEMA}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = type(error).__name__
    raise UserError(f"{path}: damaged, or of another version ({cause}); --overwrite evaluates anew")
