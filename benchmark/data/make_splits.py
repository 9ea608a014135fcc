"""Make the split lists of a data set: which splits it has, and their folds."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.data.fold_lists import ImageInfo, make_fold
from benchmark.data.group_kfold import assign_patients_to_folds
from benchmark.data.groups import patients
from benchmark.data.id_lists import folds_of
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
    """A split: what is said of it, its folds, and how more of them are drawn.

    held_out: its validation images are no training images. drawn: labelled lists at any ratio follow from the strata.
    draws: so do more folds, which are other draws on the sets of the first.
    """

    about: str
    folds: list[dict[str, Any]]
    held_out: bool = False
    drawn: bool = True
    draws: bool = False


def image_infos(prepared: PreparedData) -> list[ImageInfo]:
    """All images in order.

    Strata are grades or, without them, which classes occur. Without patients it is slides that are kept apart, and
    without either every image is its own."""
    ids, groups, strata = prepared.ids, prepared.groups, ("",) * len(prepared.ids)
    if prepared.dataset.stratified:
        strata = groups.get("grade") or tuple(_occurring(prepared, name) for name in ids)
    return [
        ImageInfo(name, chosen, stratum, patient, name not in prepared.unmasked)
        for name, chosen, stratum, patient in zip(ids, groups["set"], strata, patients(ids, groups), strict=True)
    ]


def _occurring(prepared: PreparedData, name: str) -> str:
    """The classes of an image at native size, so that lists do not depend on the working size."""
    return "" if name in prepared.unmasked else " ".join(map(str, np.unique(prepared.native_classes(name))))


def groups_digest(prepared: PreparedData, ids: Collection[str]) -> str:
    """What lists of these ids were made from: their sets, and who must not be on both sides."""
    rows = zip(prepared.ids, prepared.groups["set"], patients(prepared.ids, prepared.groups), strict=True)
    wanted = set(ids)
    return hashlib.sha256(json.dumps([row for row in rows if row[0] in wanted]).encode()).hexdigest()


def lists_digest(prepared: PreparedData, split: str) -> str | None:
    """What the user's own list files of a split hold now; None where it has none."""
    dataset = prepared.dataset
    if split not in dataset.own_lists or dataset.home is None:
        return None
    digest = hashlib.sha256()
    for fold in dataset.own_lists[split]:
        for key, file in (("train", fold.train), ("test", fold.test), ("", fold.validation), *fold.labelled.items()):
            path = dataset.home / file
            digest.update(f"{key} {file} ".encode() + (path.read_bytes() if file and path.is_file() else b""))
    return digest.hexdigest()


def ids_of(folds: Sequence[Mapping[str, Any]]) -> set[str]:
    """All images that folds have."""
    return {name for fold in folds for part in ("train", "validation", "test") for name in fold[part]}


def make_all(prepared: PreparedData, more_folds: Collection[int] = ()) -> dict[str, dict[str, Any]]:
    """split name -> the content of its file, for every split this data set has.

    more_folds: also cross-validations of so many folds, `patients_5` or `folds_5` of five.
    UserError where there are too few images with masks, and for a mistake in lists of one's own."""
    images = image_infos(prepared)
    strata: dict[str, list[str]] = {}
    for image in images:
        if image.masked:
            strata.setdefault(image.stratum, []).append(image.id)
    return {
        name: {
            "dataset": prepared.name, "split": name, "about": made.about,
            "made_by": f"python -m benchmark data split {shlex.quote(prepared.dataset.source)} --write",
            "dataset_fingerprint": prepared.fingerprint,
            "made_from": {"groups": groups_digest(prepared, ids_of(made.folds)), "lists": lists_digest(prepared, name)},
            "validation_held_out": made.held_out, "draws": made.draws, "strata": strata if made.drawn else None,
            "folds": made.folds,
        }
        for name, made in _made(prepared, images, more_folds).items()
    }


def _made(prepared: PreparedData, images: Sequence[ImageInfo], more_folds: Collection[int]) -> dict[str, Made]:
    dataset, made = prepared.dataset, dict[str, Made]()
    tests = any(image.tests for image in images)
    if tests:
        made["official"] = Made(
            "The released training and test images. Each fold is another draw of the labelled and validation lists.",
            official(dataset.name, images), any(image.set == "validation" for image in images), draws=True,
        )
    for name, lists in dataset.own_lists.items():
        assert dataset.home is not None
        made[name] = Made(
            "Lists of one's own, named in dataset.yaml.",
            folds_of(dataset.home, lists, f"{dataset.name}/{name}", images),
            any(fold.validation for fold in lists), drawn=not any(fold.labelled for fold in lists),
        )
    kind, wanted = ("patients" if tests else "folds"), {}
    if (not tests and not made) or (tests and shared_patients(images)):
        wanted[kind] = FOLDS
    for name, number in (wanted | {f"{kind}_{number}": number for number in more_folds}).items():
        about = ABOUT_PATIENTS if tests else ABOUT_FOLDS
        made[name] = Made(about, cross_validation(dataset.name, name, images, number))
    numbers = PUBLISHED.get(prepared.name, {})
    if numbers and {f"train_{number}" for part in numbers.values() for number in part} <= {*prepared.ids}:
        made["published"] = Made(
            "The only id lists published for this task (arXiv 2604.09169). Validation images are held out of training.",
            [published(images, numbers)], True, drawn=False,
        )
    return made


ABOUT_PATIENTS = (
    "Cross-validation over all images: no patient is in both training and test. Folds are balanced in images, grades "
    "and patients; the labelled and validation lists are drawn from the training images."
)
ABOUT_FOLDS = (
    "Cross-validation over all images that have a mask. No patient (or slide, or image where neither is known) is in "
    "both training and test; folds are balanced in images, in grades or classes, and in patients."
)


def shared_patients(images: Sequence[ImageInfo]) -> set[str]:
    """Patients with images both in the training set and in a test set."""
    training = {image.patient for image in images if not image.tests}
    return training & {image.patient for image in images if image.tests}


def official(dataset: str, images: Sequence[ImageInfo]) -> list[dict[str, Any]]:
    """FOLDS draws on the released sets; a validation set that is among them is every draw's."""
    train = [image for image in images if image.set == "train"]
    test = [image.id for image in images if image.tests]
    validation = [image.id for image in images if image.set == "validation"] or None
    return [make_fold(train, test, f"{dataset}/official/{number}", validation) for number in range(FOLDS)]


def cross_validation(dataset: str, split: str, images: Sequence[ImageInfo], folds: int) -> list[dict[str, Any]]:
    """Folds that are disjoint in patients; each image that has a mask is tested once."""
    tested = [image for image in images if image.masked]
    if folds < 2 or len({image.patient for image in tested}) < folds:
        raise UserError(f"{dataset}: {folds} folds need {max(2, folds)} patients (or slides, or images) with masks; "
                        "name test images by a column `set` of the groups, or give lists of your own under `splits`")
    fold_of = assign_patients_to_folds(tested, folds, f"{dataset}/{split}")
    made = []
    for number in range(folds):
        train = [image for image in images if fold_of.get(image.patient) != number]
        test = [image.id for image in tested if fold_of[image.patient] == number]
        made.append(make_fold(train, test, f"{dataset}/{split}/{number}"))
    return made


def published(images: Sequence[ImageInfo], numbers: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The one published fold."""
    named = {key: [f"train_{number}" for number in part] for key, part in numbers.items()}
    return {
        "train": [image.id for image in images if image.set == "train"],
        "validation": named.pop("validation"),
        "labelled": named,
        "test": [image.id for image in images if image.set != "train"],
    }
