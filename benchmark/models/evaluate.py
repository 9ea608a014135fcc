"""A finished run's strict scores on images of any data set of its classes, kept beside the records, never in them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.dataset import IGNORE, Dataset
from benchmark.data.load import load_prepared
from benchmark.data.splits import Split, available, check_split_matches_data, load_split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import check_writable, remove_unfinished, sha256, write_atomically, write_json
from benchmark.models.info import LARGER, Model, native_size
from benchmark.models.load import Finished
from benchmark.numerics import Numerics
from benchmark.protocols import scores
from benchmark.runs.records import archive_record, save_arrays
from benchmark.training import device as devices
from benchmark.training.evaluate import Evaluator

logger = logging.getLogger(__name__)

SCHEMA = 1
PER_IMAGE = ("test_native", "test_objects", "test_surface")
VALUES = range(2, 7)  # so many values of a group make a column each


@dataclass(frozen=True)
class Wanted:
    """Which images: those of a fold of a split that are for testing, or `all` that the data set has."""

    dataset: Dataset
    split: str
    fold: int
    sets: str  # test, all
    objects: bool


def evaluate(
    finished: Finished, wanted: Wanted, results: Path, *, raw: str | None = None, again: bool = False,
    command: str = "",
) -> tuple[dict[str, Any], Path, bool]:
    """The evaluation, its file, and whether it had been there already.

    Images that the run was trained on, and those without any truth, are left out. UserError where classes differ, where
    no image is left, and where an evaluation of other weights or images is there and is not to be set aside (`again`).
    """
    model, classes = finished.model, wanted.dataset.classes
    if tuple(classes) != model.classes:
        raise UserError(f"{model.run_id} tells {', '.join(model.classes)} apart, {wanted.dataset.name} has "
                        f"{', '.join(classes)}: only a data set of the same classes, in this order, is scored")
    if wanted.sets == "test" and not available(wanted.dataset):
        raise UserError(f"{wanted.dataset.name} has no splits: 'data split' makes them, or --sets all scores all its "
                        "images")
    prepared = load_prepared(wanted.dataset, model.size, raw=raw)
    ids, left_out = chosen(prepared, wanted, set(model.trained_on))
    if remark := other_scale(model, native_size(prepared, ids)):
        logger.warning(remark)
    content: dict[str, Any] = {
        "schema": SCHEMA, "run_id": model.run_id, "weights_sha256": model.weights_sha256,
        "dataset": prepared.name, "split": wanted.split, "fold": wanted.fold, "sets": wanted.sets,
        "objects": wanted.objects, "images": list(ids), "left_out": left_out, "size": model.size,
        "fingerprint": prepared.fingerprint, "arrays_fingerprint": prepared.arrays_fingerprint,
    }
    path = file_of(results, prepared.name, content)
    if path.exists() and not again:
        return standing(path, content), path, True
    check_writable(path.parent)
    found = counted(finished, prepared, ids, wanted.objects)
    content |= {
        "scores": {"strict": scores(found)["strict"]}, "groups": by_group(found, prepared, ids),
        "environment": devices.environment(finished.device), "command": command,
    }
    if path.exists():
        archive_record(path)
    write(path, content, found)
    return read(path), path, False


def chosen(
    prepared: PreparedData, wanted: Wanted, trained_on: set[str]
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """The images to evaluate, and those that are left out, by reason; UserError where none is left."""
    names: tuple[str, ...] = prepared.ids
    if wanted.sets == "test":
        split = load_split(wanted.dataset, wanted.split, 100, wanted.fold)
        check_split_matches_data(split, prepared)
        names = split.test
    seen = [name for name in names if prepared.hashes[prepared.position(name)] in trained_on]
    known = {name for name in names if any((prepared.masks[row] != IGNORE).any() for row in prepared.rows(name))}
    bare = [name for name in names if name not in known and name not in seen]
    left = tuple(name for name in names if name in known and name not in seen)
    if not left:
        raise UserError(f"{prepared.name}: none of {len(names)} images is left to evaluate: the run was trained on "
                        f"{len(seen)}, {len(bare)} have no mask")
    return left, {"trained_on": seen, "without_mask": bare}


def other_scale(model: Model, here: tuple[int, int]) -> str | None:
    """A line where what is resized is of another size here (H, W) than in training, so that tissue looks otherwise."""
    there = model.native_size
    if max(max(a / b, b / a) for a, b in zip(here, there, strict=True)) <= LARGER:
        return None
    cut = ""
    if model.tile:
        cut = f"; tile: {{size: {model.tile[0]}, overlap: {model.tile[1]}}} cuts images as in training"
    return (f"another scale than in training: what is resized to {model.size} px has {here[1]} x {here[0]} pixels here "
            f"(median), {there[1]} x {there[0]} there{cut}")


def counted(finished: Finished, prepared: PreparedData, ids: tuple[str, ...], objects: bool) -> dict[str, Any]:
    """The counts of the official output on these images, as a run's own evaluator counts it."""
    spec, model = finished.model.spec, finished.model
    settings = replace(spec.section("evaluate"), objects=objects)
    images = Split("evaluation", 0, 0, (), (), (), ids, "")
    numerics = Numerics.of(spec.values, finished.device)
    evaluator = Evaluator(prepared, images, settings, model.normalisation, numerics)
    per_image = evaluator.evaluate(finished.method, 0)
    counts, _ = evaluator.finalise(finished.method, per_image)
    return counts


def by_group(counts: dict[str, Any], prepared: PreparedData, ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Strict scores of the images with each value of each group, such as the grade; patients are too many."""
    found: dict[str, dict[str, Any]] = {}
    for group, values in prepared.groups.items():
        mine = np.asarray([values[prepared.position(name)] for name in ids])
        kinds = sorted(set(mine.tolist()))
        if group != "patient" and len(kinds) in VALUES:
            found[group] = {kind: scores(_part(counts, mine == kind))["strict"] for kind in kinds}
    return found


def _part(counts: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """What the strict protocol reads, of some of the images."""
    part = {name: counts[name][rows] for name in PER_IMAGE if name in counts}
    return part | {name: counts[name] for name in ("classes",) if name in counts}


def file_of(results: Path, dataset: str, content: dict[str, Any]) -> Path:
    """Where an evaluation is kept: a folder for each run, a name for each choice of images and scores."""
    parts = [dataset, "all"] if content["sets"] == "all" else [dataset, content["split"], f"f{content['fold']}"]
    parts += ["objects"] if content["objects"] else []
    return results / "evaluations" / content["run_id"] / f"{'-'.join(parts)}.json"


def standing(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The evaluation that is there; UserError where it is of other weights, data or images."""
    there = read(path)
    for key, value in content.items():
        if there.get(key) != value:
            raise UserError(f"{path}: an evaluation with another {key} is there; --overwrite evaluates again "
                            "and sets the old one aside")
    return there


def write(path: Path, content: dict[str, Any], counts: dict[str, Any]) -> None:
    """Counts first, then the file that names their digest."""
    remove_unfinished(path.parent, path.stem)
    evidence = path.with_suffix(".npz")
    write_atomically(evidence, lambda stream: save_arrays(stream, counts))
    write_json(path, content | {"counts_sha256": sha256(evidence)})


def read(path: Path) -> dict[str, Any]:
    """One evaluation; UserError where it is damaged, or of a later form."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = content["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged evaluation ({type(error).__name__}); --overwrite makes it anew") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: has schema {schema}, this version reads {SCHEMA}; update SemiHisto")
    return content
