"""Split lists of one's own: the files of ids that `splits` of a dataset.yaml names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.data.fold_lists import Member, fold_of
from benchmark.data.folder_schema import Lists, describe
from benchmark.data.id_lists import lines_of
from benchmark.errors import UserError, suggest


def own_folds(folder: Path, dataset: str, images: Sequence[Member]) -> dict[str, tuple[list[dict[str, Any]], bool]]:
    """split -> its folds, and whether they name validation images; lists that dataset.yaml does not name are drawn.

    UserError, with the file: an id that is no image or is listed twice, an image in two lists of a fold, a patient (or
    slide) both in training and test, a validation, test or labelled image without a mask."""
    known = {image.id: image for image in images}
    return {
        name: (
            [_fold(folder, lists, known, f"{dataset}/{name}/{number}") for number, lists in enumerate(folds)],
            any(lists.validation for lists in folds),
        )
        for name, folds in describe(folder).splits.items()
    }


def _fold(folder: Path, lists: Lists, images: dict[str, Member], key: str) -> dict[str, Any]:
    """One fold's lists, in the data set's order."""
    parts = {"train": _read(folder, lists.train, images), "test": _read(folder, lists.test, images, masked=True)}
    if lists.validation:
        parts["validation"] = _read(folder, lists.validation, images, masked=True)
    _check_apart(parts, images, {part: folder / getattr(lists, part) for part in parts})
    labelled = {ratio: _read(folder, file, images, masked=True) for ratio, file in lists.labelled.items()}
    for ratio, names in labelled.items():
        if strange := sorted(set(names) - set(parts["train"])):
            raise UserError(f"{folder / lists.labelled[ratio]}: '{strange[0]}' is no training image of {lists.train}")
    train = [images[name] for name in parts["train"]]
    return fold_of(train, parts["test"], key, parts.get("validation"), labelled or None)


def _read(folder: Path, file: str, images: dict[str, Member], masked: bool = False) -> list[str]:
    """The ids of a list in the data set's order."""
    path = folder / file
    found: dict[str, int] = {}
    for number, name in lines_of(path):
        where = f"{path}, line {number}: '{name[:60]}'"
        if name not in images:
            raise UserError(f"{where} is no image of this data set.{suggest(name, images)}")
        if name in found:
            raise UserError(f"{where} is listed twice (first in line {found[name]})")
        if masked and not images[name].masked:
            raise UserError(f"{where} has no mask; it can only be an unlabelled training image")
        found[name] = number
    if not found:
        raise UserError(f"{path}: the list is empty; expected image ids, one a line")
    return [name for name in images if name in found]


def _check_apart(parts: dict[str, list[str]], images: dict[str, Member], files: dict[str, Path]) -> None:
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
