"""Make the split lists of a data set: which splits it has, and their folds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.data.fold_lists import Member, fold_of
from benchmark.data.folder_lists import own_folds
from benchmark.data.group_kfold import deal
from benchmark.data.store import PreparedData
from benchmark.errors import UserError

FOLDS = 3

# arXiv 2604.09169, the only public id lists for this task: numbers of training images. Validation images are held
# out of training there, not used as unlabelled ones.
PUBLISHED: dict[str, dict[str, tuple[int, ...]]] = {
    "glas": {
        "10": (4, 17, 23, 28, 60, 74, 85),
        "20": (4, 9, 17, 20, 23, 28, 42, 52, 55, 60, 69, 70, 74, 85),
        "validation": (7, 27, 33, 37, 45, 54, 62, 63, 66, 71, 76, 82),
    },
    "crag": {
        "10": (7, 44, 54, 60, 74, 77, 81, 83, 99, 100, 116, 126, 146, 154, 157, 158),
        "20": (7, 17, 18, 34, 44, 50, 52, 54, 58, 60, 62, 65, 74, 77, 81, 83, 99, 100, 110, 114, 116, 126, 131, 137,
               138, 143, 146, 154, 157, 158, 159),
        "validation": (6, 8, 12, 40, 69, 82, 90, 97, 104, 105, 106, 119, 122, 124, 130, 149, 150, 152, 155, 162),
    },
}


@dataclass(frozen=True)
class Made:
    """A split: what is said of it, its folds, and whether its validation images are no training images at all."""

    about: str
    folds: list[dict[str, Any]]
    held_out: bool = False


def members(prepared: PreparedData) -> list[Member]:
    """All images in order.

    Strata are grades or, without them, which classes occur. Without patients it is slides that are kept apart, and
    without either, and where the patient is not known, every image is its own."""
    ids, groups = prepared.ids, prepared.groups
    strata = groups.get("grade") or tuple(_occurring(prepared, name) for name in ids)
    known = groups.get("patient") or groups.get("slide") or ids
    return [
        Member(name, chosen, stratum, patient or name, name not in prepared.unmasked)
        for name, chosen, stratum, patient in zip(ids, groups["set"], strata, known, strict=True)
    ]


def _occurring(prepared: PreparedData, name: str) -> str:
    """The classes of an image at native size, so that lists do not depend on the working size."""
    return "" if name in prepared.unmasked else " ".join(map(str, np.unique(prepared.native_classes(name))))


def make_all(prepared: PreparedData) -> dict[str, dict[str, Any]]:
    """split name -> the content of its file, for every split this data set has.

    UserError where there are too few images with masks, and for a mistake in lists of one's own."""
    return {
        name: {
            "dataset": prepared.name, "split": name, "about": made.about,
            "made_by": f"python -m benchmark data split {shlex.quote(prepared.dataset.source)} --write",
            "dataset_fingerprint": prepared.fingerprint, "validation_held_out": made.held_out, "folds": made.folds,
        }
        for name, made in _made(prepared).items()
    }


def _made(prepared: PreparedData) -> dict[str, Made]:
    images = members(prepared)
    made: dict[str, Made] = {}
    if any(image.tests for image in images):
        made["official"] = Made(
            "The released training and test images. Each fold is another draw of the labelled and validation lists.",
            official(prepared.name, images), any(image.set == "validation" for image in images),
        )
        if shared_patients(images):
            made["patients"] = Made(
                "Cross-validation over all images: no patient is in both training and test. Folds are balanced in "
                "images, grades and patients; the labelled and validation lists are drawn from the training images.",
                cross_validation(prepared.name, "patients", images),
            )
    if prepared.dataset.home:
        made |= {
            name: Made("Lists of one's own, named in dataset.yaml.", folds, held_out)
            for name, (folds, held_out) in own_folds(prepared.dataset.home, prepared.name, images).items()
        }
    if not made:
        made["folds"] = Made(
            "Cross-validation over all images that have a mask. No patient (or slide, or image where neither is known) "
            "is in both training and test; folds are balanced in images, in grades or classes, and in patients.",
            cross_validation(prepared.name, "folds", images),
        )
    lists = PUBLISHED.get(prepared.name, {})
    if lists and all(f"train_{number}" in prepared.ids for numbers in lists.values() for number in numbers):
        made["published"] = Made(
            "The only id lists published for this task (arXiv 2604.09169). Validation images are held out of training.",
            [published(images, lists)], True,
        )
    return made


def shared_patients(images: Sequence[Member]) -> set[str]:
    """Patients with images both in the training set and in a test set."""
    training = {image.patient for image in images if not image.tests}
    return training & {image.patient for image in images if image.tests}


def official(dataset: str, images: Sequence[Member]) -> list[dict[str, Any]]:
    """FOLDS draws on the released sets; a validation set that is among them is every draw's."""
    train = [image for image in images if image.set == "train"]
    test = [image.id for image in images if image.tests]
    validation = [image.id for image in images if image.set == "validation"] or None
    return [fold_of(train, test, f"{dataset}/official/{number}", validation) for number in range(FOLDS)]


def cross_validation(dataset: str, split: str, images: Sequence[Member]) -> list[dict[str, Any]]:
    """FOLDS folds, disjoint in patients; each image that has a mask is tested once."""
    tested = [image for image in images if image.masked]
    if len({image.patient for image in tested}) < FOLDS:
        raise UserError(f"{dataset}: {FOLDS} folds need {FOLDS} patients (or slides, or images) with masks; name test "
                        "images by a column `set` of the groups, or give lists of your own under `splits`")
    home = deal(tested, FOLDS, f"{dataset}/{split}")
    made = []
    for number in range(FOLDS):
        train = [image for image in images if home.get(image.patient) != number]
        test = [image.id for image in tested if home[image.patient] == number]
        made.append(fold_of(train, test, f"{dataset}/{split}/{number}"))
    return made


def published(images: Sequence[Member], lists: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The one published fold."""
    named = {key: [f"train_{number}" for number in numbers] for key, numbers in lists.items()}
    return {
        "train": [image.id for image in images if image.set == "train"],
        "validation": named.pop("validation"),
        "labelled": named,
        "test": [image.id for image in images if image.set != "train"],
    }
