"""Split lists of one's own: the files of ids that `splits` of a dataset.yaml names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.data.fold_lists import ImageInfo, make_fold
from benchmark.data.folder_schema import Lists
from benchmark.data.id_lists import read_ids
from benchmark.errors import UserError

BARE = "has no mask; it can only be an unlabelled training image"


def folds_of(folder: Path, lists: Sequence[Lists], key: str, images: Sequence[ImageInfo]) -> list[dict[str, Any]]:
    """The folds that these files say; labelled and validation images that they do not name are drawn.

    UserError, with the file: an id that is no image or is listed twice, an image in two lists of a fold, a patient (or
    slide) both in training and test, a validation, test or labelled image without a mask."""
    known = {image.id: image for image in images}
    return [_fold(folder, fold, known, f"{key}/{number}") for number, fold in enumerate(lists)]


def _fold(folder: Path, lists: Lists, images: dict[str, ImageInfo], key: str) -> dict[str, Any]:
    """One fold's lists, in the data set's order."""
    ids, bare = list(images), {name: BARE for name, image in images.items() if not image.masked}
    files = {"train": lists.train, "test": lists.test} | ({"validation": lists.validation} if lists.validation else {})
    parts = {
        part: read_ids(folder / file, ids, "image of this data set", {} if part == "train" else bare)
        for part, file in files.items()
    }
    _check_apart(parts, images, {part: folder / file for part, file in files.items()})
    labelled = {
        ratio: read_ids(folder / file, parts["train"], f"training image of {lists.train}", bare)
        for ratio, file in lists.labelled.items()
    }
    train = [images[name] for name in parts["train"]]
    return make_fold(train, parts["test"], key, parts.get("validation"), labelled or None)


def _check_apart(parts: dict[str, list[str]], images: dict[str, ImageInfo], files: dict[str, Path]) -> None:
    """No image in two lists, no patient both in the test list and in another."""
    seen: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in seen:
                raise UserError(f"{files[part]}: '{name}' is also in {files[seen[name]].name}; it may be in one list")
            seen[name] = part
    tested = {images[name].patient: name for name in parts["test"]}
    for name, part in seen.items():
        patient = images[name].patient
        if part != "test" and patient in tested:
            raise UserError(f"{files[part]}: '{name}' is of '{patient}', as is '{tested[patient]}' of "
                            f"{files['test'].name}; a patient or slide must not be both in training and test")
