"""Make the split lists of a data set, and write them or compare them with the files."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.dataset import Dataset
from benchmark.data.fold_lists import (
    TRAIN,
    VALIDATION,
    ImageInfo,
    Strata,
    assign_patients_to_folds,
    fold_by_key,
    lists_by_patient,
    make_fold,
    patients,
)
from benchmark.data.folder_dataset import Lists
from benchmark.data.splits import BARE, digest_of, made_from, read_ids, read_split, split_command, split_names
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import set_aside, write_text

FOLDS = 3
Fold = dict[str, Any]

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
ABOUT = {
    "official": "The released training and test images. Each fold is another draw of the labelled and validation "
                "lists.",
    "patients": "Cross-validation over all images: no patient is in both training and test. Folds are balanced in "
                "images, grades and patients; the labelled and validation lists are drawn from the training images.",
    "folds": "Cross-validation over all images that have a mask. No patient (or slide, or image where neither is "
             "known) is in both training and test; folds are balanced in images, in grades or classes, and in "
             "patients.",
    "keyed": "Cross-validation by patient: the fold of a patient, and the order in which patients are labelled, follow "
             "from the patient's name alone, so any subset of the patients has the same. Labelled lists are of whole "
             "patients.",
    "quarter": "A quarter of the patients: those whose name has a sha256 that 4 divides. Cross-validation by patient: "
               "the fold of a patient, and the order in which patients are labelled, follow from the patient's name "
               "alone.",
    "published": "The only id lists published for this task (arXiv 2604.09169). Validation images are held out of "
                 "training.",
}


def make_all(prepared: PreparedData, more_folds: Collection[int] = ()) -> dict[str, dict[str, Any]]:
    """split name -> the content of its file, for every split this data set has.

    more_folds: also cross-validations of so many folds, `patients_5` or `folds_5` of five.
    UserError where there are too few images with masks, and for a mistake in lists of one's own."""
    dataset, images = prepared.dataset, _images(prepared)
    strata: dict[str, list[str]] = {}
    for image in images:
        if image.masked:
            strata.setdefault(image.stratum, []).append(image.id)
    made: dict[str, dict[str, Any]] = {}

    def add(name: str, about: str, folds: list[Fold], held_out: bool = False, drawn: bool = True) -> None:
        """held_out: validation images are no training images. drawn: labelled lists at any ratio follow from the
        strata."""
        made[name] = {
            "dataset": prepared.name, "split": name, "about": about, "made_by": split_command(dataset).strip("'"),
            "dataset_fingerprint": prepared.fingerprint_of(name), "made_from": made_from(prepared, name, folds),
            "validation_held_out": held_out, "draws": name == "official" and drawn,
            "strata": strata if drawn else None,
            "folds": folds,
        }

    sets = {name: [image.id for image in images if image.set == name] for name in (TRAIN, VALIDATION)}
    test = [image.id for image in images if image.set not in sets]
    if test:
        draws = [_fold(dataset, images, sets[TRAIN], test, strata, f"official/{number}", sets[VALIDATION] or None)
                 for number in range(FOLDS)]
        add("official", ABOUT["official"], draws, bool(sets[VALIDATION]), not dataset.list_key)
    for name, holds in dataset.parts.items():
        part = [image for image in images if holds(image.patient)]
        if len({fold_by_key(image.patient, FOLDS, f"{dataset.list_key}/folds") for image in part}) < FOLDS:
            continue  # too few patients
        add(name, ABOUT[name], _cross_validation(dataset, "folds", part, strata, FOLDS), drawn=False)
        if len(part) == len(images):
            return made
    for name, lists in dataset.own_lists.items():
        if len({bool(fold.validation) for fold in lists}) > 1:
            raise UserError(f"{dataset.home}: some folds of the split '{name}' have a validation list and some have "
                            "none; give it to all or to none")
        folds = [_own_fold(dataset, fold, images, strata, f"{dataset.name}/{name}/{number}")
                 for number, fold in enumerate(lists)]
        add(name, "Lists of one's own, named in dataset.yaml.", folds, any(fold.validation for fold in lists),
            not any(fold.labelled for fold in lists))
    kind = "patients" if test else "folds"
    tested = {image.patient for image in images if image.set not in sets}
    wanted = {f"{kind}_{number}": number for number in more_folds}
    if any(image.patient in tested for image in images if image.set in sets) or not (test or dataset.own_lists):
        wanted = {kind: FOLDS} | wanted
    for name, number in wanted.items():
        about = ABOUT["keyed" if dataset.list_key else kind]
        add(name, about, _cross_validation(dataset, name, images, strata, number), drawn=not dataset.list_key)
    numbers = PUBLISHED.get(prepared.name, {})
    named = {key: [f"train_{number}" for number in part] for key, part in numbers.items()}
    if named and {name for part in named.values() for name in part} <= {*prepared.ids}:
        fold = {"train": sets[TRAIN], "validation": named.pop("validation"), "labelled": named, "test": test}
        add("published", ABOUT["published"], [fold], held_out=True, drawn=False)
    return made


def _images(prepared: PreparedData) -> list[ImageInfo]:
    """All images in order. Strata are grades or, without them, which classes occur, at native size, so that lists do
    not depend on the working size."""
    ids, groups, strata = prepared.ids, prepared.groups, [""] * len(prepared.ids)
    if prepared.dataset.stratified:
        strata = list(groups.get("grade", ())) or [
            " ".join(map(str, np.unique(prepared.native_classes(name)))) for name in ids
        ]
    return [ImageInfo(name, chosen, stratum, patient, name not in prepared.unmasked)
            for name, chosen, stratum, patient in zip(ids, groups["set"], strata, patients(ids, groups), strict=True)]


def _fold(
    dataset: Dataset, images: Sequence[ImageInfo], train: list[str], test: list[str], strata: Strata, name: str,
    validation: list[str] | None = None,
) -> Fold:
    """One fold; its labelled lists are of images, or of whole patients where the data set has a key for them."""
    if not dataset.list_key:
        return make_fold(train, test, strata, f"{dataset.name}/{name}", validation)
    learnt = [image for image in images if image.masked and image.id in set(train)]
    labelled, held = lists_by_patient(learnt, f"{dataset.list_key}/{name}")
    return make_fold(train, test, strata, f"{dataset.name}/{name}", validation or held, labelled)


def _cross_validation(
    dataset: Dataset, split: str, images: Sequence[ImageInfo], strata: Strata, folds: int
) -> list[Fold]:
    """Folds that are disjoint in patients; each image that has a mask is tested once."""
    tested = [image for image in images if image.masked]
    if folds < 2 or len({image.patient for image in tested}) < folds:
        raise UserError(f"{dataset.name}: {folds} folds need {max(2, folds)} patients (or slides, or images) with "
                        "masks; name test images by a column `set` of the groups, or give lists of your own under "
                        "`splits`")
    if dataset.list_key:
        fold_of = {image.patient: fold_by_key(image.patient, folds, f"{dataset.list_key}/{split}") for image in images}
    else:
        fold_of = assign_patients_to_folds(tested, folds, f"{dataset.name}/{split}")
    made = []
    for number in range(folds):
        train = [image.id for image in images if fold_of.get(image.patient) != number]
        test = [image.id for image in tested if fold_of[image.patient] == number]
        made.append(_fold(dataset, images, train, test, strata, f"{split}/{number}"))
    return made


def _own_fold(dataset: Dataset, lists: Lists, images: Sequence[ImageInfo], strata: Strata, key: str) -> Fold:
    """The fold that these files say, in the data set's order; what they do not name is drawn.

    UserError, with the file: an id that is no image or is listed twice, an image in two lists of a fold, a patient (or
    slide) both in training and test, a validation, test or labelled image without a mask."""
    assert dataset.home is not None
    patient = {image.id: image.patient for image in images}
    bare = {image.id: BARE for image in images if not image.masked}
    files = {"train": lists.train, "test": lists.test} | ({"validation": lists.validation} if lists.validation else {})
    parts = {
        part: read_ids(dataset.home / file, list(patient), "image of this data set", bare if part != "train" else {})
        for part, file in files.items()
    }
    listed: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in listed:
                raise UserError(f"{dataset.home / files[part]}: '{name}' is also in {listed[name]}; it may be in one "
                                "list")
            listed[name] = files[part]
    tested = {patient[name]: name for name in parts["test"]}
    for name, file in listed.items():
        if file != lists.test and patient[name] in tested:
            raise UserError(f"{dataset.home / file}: '{name}' is of '{patient[name]}', as is "
                            f"'{tested[patient[name]]}' of {lists.test}; a patient or slide must not be both in "
                            "training and test")
    labelled = {
        ratio: read_ids(dataset.home / file, parts["train"], f"training image of {lists.train}", bare)
        for ratio, file in lists.labelled.items()
    }
    return make_fold(parts["train"], parts["test"], strata, key, parts.get("validation"), labelled or None)


def write(prepared: PreparedData, folds: int | None = None) -> list[str]:
    """Make and write every split of a data set, also a cross-validation of so many `folds`; a line for each file.

    Other versions of a file, and files of splits that are not made any more, are set aside."""
    made = make_all(prepared, _more_folds(prepared.dataset) | ({folds} if folds else set()))
    lines = []
    for name, content in made.items():
        path = _path(prepared, name)
        text = json.dumps({**content, "fingerprint": digest_of(content)}, indent=1) + "\n"
        other = path.is_file() and path.read_bytes() != text.encode()
        kept = f"; the other version that was there is kept as {set_aside(path).name}" if other else ""
        write_text(path, text)
        lines.append(f"wrote {path}{kept}")
    for name in split_names(prepared.dataset):
        if name not in made:
            path = _path(prepared, name)
            lines.append(f"{path}: this split is not made any more; the file is kept as {set_aside(path).name}")
    return lines


def compare(prepared: PreparedData) -> tuple[bool, list[str]]:
    """Whether the files are what `make_all` gives from these data, and a line for each."""
    fine, lines = True, []
    made = make_all(prepared, _more_folds(prepared.dataset))
    for name in sorted({*made, *split_names(prepared.dataset)}):
        if name not in made or not _path(prepared, name).is_file():
            fine, verdict = False, "not a split that is made" if name not in made else "missing; use --write"
        else:
            held = read_split(prepared.dataset, name)
            same = all(held[key] == made[name][key] for key in ("folds", "strata", "made_from"))
            fine &= same
            verdict = "the same lists" if same else "DIFFERENT lists; use --write if that is meant"
            if held["dataset_fingerprint"] not in ("", prepared.fingerprint_of(name)):
                verdict += ", made from other pixels"
        lines.append(f"{prepared.name}/{name}: {verdict}")
    return fine, lines


def _path(prepared: PreparedData, split: str) -> Path:
    return prepared.dataset.splits_folder / f"{split}.json"


def _more_folds(dataset: Dataset) -> set[int]:
    """The numbers of folds of the cross-validations that were asked for once."""
    found = (re.fullmatch(r"(?:patients|folds)_(\d+)", name) for name in split_names(dataset))
    return {int(match[1]) for match in found if match}
