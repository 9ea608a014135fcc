"""Splits: which images a run learns from with labels, which without, which choose its epoch and which test it.

They are lists in files, verified against their fingerprint when read: configs/splits/<dataset>/<split>.json, which are
committed, and of a folder of one's own <folder>/splits/<split>.json. Lists at other ratios than the file has, and more
draws of the labelled lists, follow from the file's strata, the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.dataset import Dataset
from benchmark.data.fold_lists import VALIDATION, FoldOrder, ImageInfo, make_fold
from benchmark.data.id_lists import BARE, read_ids
from benchmark.data.make_splits import groups_digest, ids_of, lists_digest, make_all
from benchmark.data.store import PreparedData
from benchmark.errors import UserError, suggest
from benchmark.files import write_text

DEFAULT_RATIO = 20


@dataclass(frozen=True)
class Split:
    """One resolved choice. The lists are in the data set's order."""

    name: str
    ratio: int
    fold: int
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    validation: tuple[str, ...]  # empty where no honest validation is left: above 20 % labels
    test: tuple[str, ...]
    fingerprint: str  # sha256 of the four lists


@dataclass(frozen=True)
class SplitInfo:
    """What one split file offers."""

    split: str
    about: str
    ratios: tuple[int, ...]
    folds: int


def load_split(
    dataset: Dataset, split: str, ratio: int | None, fold: int, *, labelled_file: str | Path | None = None
) -> Split:
    """The lists of one run. `ratio` is of the training images that have a mask: at 100 % the others are unlabelled.

    Validation images are also unlabelled training images (as in the published counts 9 + 76 and 17 + 68 of GlaS)
    unless the split holds them out. With `labelled_file` (ids, one a line) the labelled list is the user's own, the
    name becomes "<split>+<8 hex of it>", and a ratio that is not given follows from its length.
    UserError: a split, ratio or fold that does not exist (says which do), an edited file, a bad list of one's own.
    """
    content = _read(dataset, split)
    lists = _fold(dataset, content, fold)
    train, validation, test = lists["train"], lists["validation"], lists["test"]
    unmasked = set(lists.get("unmasked", ()))
    masked = [name for name in train if name not in unmasked]
    held_out = set(validation) if content["validation_held_out"] else set()
    if labelled_file is not None:
        refused = dict.fromkeys(test, "is a test image of this split; it must not be learned from")
        refused |= dict.fromkeys(unmasked, BARE)
        labelled = read_ids(Path(labelled_file), train, "training image of this split", refused)
        held_out -= set(labelled)
        validation = [name for name in validation if name not in set(labelled)]
        split += "+" + hashlib.sha256("\n".join(labelled).encode()).hexdigest()[:8]
        if ratio is None:
            ratio = 100 if len(labelled) == len(masked) else min(99, max(1, round(100 * len(labelled) / len(masked))))
        _check_ratio(ratio)
    else:
        ratio = DEFAULT_RATIO if ratio is None else ratio
        _check_ratio(ratio)
        labelled = [name for name in masked if name not in held_out]
        if ratio < 100:
            labelled = _labelled(dataset, content, lists, ratio, fold)
        if ratio > VALIDATION and not held_out:
            validation = []
    known = held_out | set(labelled)
    unlabelled = [name for name in train if name not in known]
    digest = _digest([labelled, unlabelled, validation, test])
    return Split(
        split, ratio, fold, tuple(labelled), tuple(unlabelled), tuple(validation), tuple(test), fingerprint=digest
    )


def _fold(dataset: Dataset, content: Mapping[str, Any], fold: int) -> Mapping[str, Any]:
    """The lists of a fold; of a split whose folds are draws, one more than the file has is drawn."""
    folds: list[Mapping[str, Any]] = content["folds"]
    if fold in range(len(folds)):
        return folds[fold]
    if fold < 0 or not content["draws"]:
        raise UserError(f"split '{content['split']}' of {dataset.name} has no fold {fold}; it has "
                        f"{_listed(range(len(folds)))}")
    first = folds[0]
    validation = first["validation"] if content["validation_held_out"] else None
    return make_fold(_infos(content, first["train"]), first["test"], _key(content, fold), validation)


def _labelled(
    dataset: Dataset, content: Mapping[str, Any], lists: Mapping[str, Any], ratio: int, fold: int
) -> list[str]:
    """The labelled list of a fold at a ratio below 100 %."""
    if (given := lists["labelled"].get(str(ratio))) is not None:
        return list(given)
    if not content["strata"]:
        raise UserError(f"split '{content['split']}' of {dataset.name} has no labelled list at {ratio} %; it has "
                        f"{_listed([*lists['labelled'], 100])}, or give your own with --labelled FILE")
    return FoldOrder(_infos(content, lists["train"]), _key(content, fold)).labelled(ratio)


def _infos(content: Mapping[str, Any], ids: Iterable[str]) -> list[ImageInfo]:
    stratum = {name: key for key, names in content["strata"].items() for name in names}
    return [ImageInfo(name, "train", stratum.get(name, ""), name, name in stratum) for name in ids]


def _key(content: Mapping[str, Any], fold: int) -> str:
    return f"{content['dataset']}/{content['split']}/{fold}"


def _check_ratio(ratio: int) -> None:
    if not 1 <= ratio <= 100:
        raise UserError(f"--ratio must be a whole percentage from 1 to 100, it is {ratio}")


def check_split_matches_data(split: Split, prepared: PreparedData) -> list[str]:
    """Whether these data are the ones the split was made for: remarks for the user, none if all is well.

    UserError where an image of the split, or its mask, is missing from the data, and where sets, patients, slides or
    the user's own lists are not what the split was made from."""
    needed = dict.fromkeys((*split.labelled, *split.unlabelled, *split.validation, *split.test))
    present = set(prepared.ids)
    lost = [name for name in needed if name not in present]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise UserError(f"split '{split.name}' needs the image {lost[0]}{more}, which the prepared {prepared.name} in "
                        f"{prepared.folder} lacks; is the data set complete?")
    bare = [name for name in (*split.labelled, *split.validation, *split.test) if name in prepared.unmasked]
    if bare:
        raise UserError(f"split '{split.name}' needs the mask of {bare[0]}, which is not there any more; put it back, "
                        f"or make the lists again with {_command(prepared.dataset)}")
    name = split.name.partition("+")[0]
    content = _read(prepared.dataset, name)
    made_from = content["made_from"]
    now = {"groups": groups_digest(prepared, ids_of(content["folds"])), "lists": lists_digest(prepared, name)}
    for key, what in (("groups", "sets, patients or slides"), ("lists", "list files that dataset.yaml names")):
        if made_from[key] != now[key]:
            raise UserError(f"split '{name}' of {prepared.name} was made before its {what} were changed; make it again "
                            f"with {_command(prepared.dataset)}")
    if content["dataset_fingerprint"] in ("", prepared.fingerprint):
        return []
    marks = f"({prepared.fingerprint[:12]}, not {content['dataset_fingerprint'][:12]})"
    if prepared.dataset.home:
        return [f"{prepared.name} is not what the split '{split.name}' was made from {marks}: "
                f"{_command(prepared.dataset)} makes the lists again, with what was added"]
    return [f"your copy of {prepared.name} does not have the pixels that the split '{split.name}' was made from "
            f"{marks}: results may differ"]


def default_split(dataset: Dataset) -> str:
    """`official` where the data set has it or has none yet, else the first of its splits."""
    known = _splits(dataset)
    return "official" if "official" in known or not known else known[0]


def available(dataset: Dataset) -> list[SplitInfo]:
    """Every split of a data set, with its ratios and number of folds."""
    offers = []
    for name in _splits(dataset):
        content = _read(dataset, name)
        ratios = (*map(int, content["folds"][0]["labelled"]), 100)
        offers.append(SplitInfo(name, content["about"], ratios, len(content["folds"])))
    return offers


def write(prepared: PreparedData, folds: int | None = None) -> list[str]:
    """Make and write every split of a data set, also a cross-validation of so many `folds`; a line for each file.

    Files of splits that are not made any more are set aside."""
    made = make_all(prepared, _more_folds(prepared.dataset) | ({folds} if folds else set()))
    lines = []
    for name, content in made.items():
        path = prepared.dataset.splits_folder / f"{name}.json"
        text = json.dumps({**content, "fingerprint": _digest(content)}, indent=1) + "\n"
        other = path.is_file() and path.read_bytes() != text.encode()
        write_text(path, text)
        lines.append(f"wrote {path}" + " over another version of it" * other)
    for name in _splits(prepared.dataset):
        if name not in made:
            path = prepared.dataset.splits_folder / f"{name}.json"
            path.replace(path.with_name(f"{path.name}.old"))
            lines.append(f"{path}: this split is not made any more; the file is kept as {path.name}.old")
    return lines


def compare(prepared: PreparedData) -> tuple[bool, list[str]]:
    """Whether the committed files are what `make_all` gives from these data, and a line for each."""
    fine, lines = True, []
    made = make_all(prepared, _more_folds(prepared.dataset))
    for name in sorted({*made, *_splits(prepared.dataset)}):
        path = prepared.dataset.splits_folder / f"{name}.json"
        if name not in made or not path.is_file():
            fine, verdict = False, "not a split that is made" if name not in made else "missing; use --write"
        else:
            held = _read(prepared.dataset, name)
            same = all(held[key] == made[name][key] for key in ("folds", "strata", "made_from"))
            fine &= same
            verdict = "the same lists" if same else "DIFFERENT lists; use --write if that is meant"
            if held["dataset_fingerprint"] not in ("", prepared.fingerprint):
                verdict += ", made from other pixels"
        lines.append(f"{prepared.name}/{name}: {verdict}")
    return fine, lines


def _more_folds(dataset: Dataset) -> set[int]:
    """The numbers of folds of the cross-validations that were asked for once."""
    found = (re.fullmatch(r"(?:patients|folds)_(\d+)", name) for name in _splits(dataset))
    return {int(match[1]) for match in found if match}


def _splits(dataset: Dataset) -> list[str]:
    return sorted(path.stem for path in dataset.splits_folder.glob("*.json") if not path.name.startswith("."))


def _command(dataset: Dataset) -> str:
    return f"'python -m benchmark data split {shlex.quote(dataset.source)} --write'"


def _read(dataset: Dataset, split: str) -> dict[str, Any]:
    known = _splits(dataset)
    if split not in known:
        has = f"it has {', '.join(known)}"
        if not known:
            has = f"none is made yet: {_command(dataset)} does it where its images are"
        raise UserError(f"{dataset.name} has no split '{split}'.{suggest(split, known)} {has[0].upper()}{has[1:]}.")
    path = dataset.splits_folder / f"{split}.json"
    restore = f"make it again with {_command(dataset)}" if dataset.home else "restore it with git"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        claimed = content.pop("fingerprint")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a split file ({error}); {restore}") from None
    if _digest(content) != claimed:
        raise UserError(f"{path}: the lists do not have their fingerprint, the file was edited; {restore}, or give "
                        "your own list with --labelled FILE")
    if "made_from" not in content:
        raise UserError(f"{path}: does not say what the lists were made from, as older versions did; {restore}")
    return content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
