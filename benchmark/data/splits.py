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
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.dataset import Dataset
from benchmark.data.fold_lists import HELD, FoldOrder, make_fold, patients
from benchmark.data.store import PreparedData
from benchmark.errors import UserError, listed, suggest

DEFAULT_RATIO = 20
COMMENT = re.compile(r"(^|\s)#.*")
BARE = "has no mask; it can only be an unlabelled training image"


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
    fingerprint: str  # sha256 of the four lists, no image in two of the first two
    pool: tuple[str, ...] = ()  # unlabelled images of other data, <pool>:<id> (benchmark/data/pools.py)
    pool_fingerprints: tuple[str, ...] = ()  # of the lists that these are of, a pool each

    @property
    def file(self) -> str:
        """The name of the split's file: without the mark of a labelled list of the user's own."""
        return self.name.partition("+")[0]


def load_split(
    dataset: Dataset, split: str, ratio: int | None, fold: int, *, labelled_file: str | Path | None = None,
    in_both: bool = False,
) -> Split:
    """The lists of one run. `ratio` is of the training images that have a mask: at 100 % the others are unlabelled.

    Validation images are also unlabelled training images (as in the published counts 9 + 76 and 17 + 68 of GlaS)
    unless the split holds them out. With `labelled_file` (ids, one a line) the labelled list is the user's own, the
    name becomes "<split>+<8 hex of it>", and a ratio that is not given follows from its length. `in_both`: labelled
    images, whose masks are sparse, are unlabelled ones as well.
    UserError: a split, ratio or fold that does not exist (says which do), an edited file, a bad list of one's own.
    """
    content = read_split(dataset, split)
    lists = _fold(dataset, content, fold)
    train, validation, test = lists["train"], lists["validation"], lists["test"]
    unmasked = lists.get("unmasked", [])
    masked = [name for name in train if name not in set(unmasked)]
    held_out = set(validation) if content["validation_held_out"] else set()
    own: list[str] | None = None
    if labelled_file is not None:
        refused = dict.fromkeys(test, "is a test image of this split; it must not be learned from")
        refused |= dict.fromkeys(unmasked, BARE)
        own = read_ids(Path(labelled_file), train, "training image of this split", refused)
        if ratio is None:
            ratio = 100 if len(own) == len(masked) else min(99, max(1, round(100 * len(own) / len(masked))))
    ratio = DEFAULT_RATIO if ratio is None else ratio
    if not 1 <= ratio <= 100:
        raise UserError(f"--ratio must be a whole percentage from 1 to 100, it is {ratio}")
    if own is not None:
        labelled = own
        held_out -= set(own)
        validation = [name for name in validation if name not in set(own)]
        split += "+" + hashlib.sha256("\n".join(own).encode()).hexdigest()[:8]
    else:
        if ratio == 100:
            labelled = [name for name in masked if name not in held_out]
        else:
            labelled = _labelled(dataset, content, lists, ratio, fold)
        if ratio > HELD and not held_out:
            validation = []
    unlabelled = [name for name in train if name not in held_out | set(labelled)]
    digest = digest_of([labelled, unlabelled, validation, test])
    if in_both:
        unlabelled = [name for name in train if name not in held_out]
    return Split(split, ratio, fold, tuple(labelled), tuple(unlabelled), tuple(validation), tuple(test), digest)


def _fold(dataset: Dataset, content: Mapping[str, Any], fold: int) -> Mapping[str, Any]:
    """The lists of a fold; of a split whose folds are draws, one more than the file has is drawn."""
    folds: list[Mapping[str, Any]] = content["folds"]
    if fold in range(len(folds)):
        return folds[fold]
    if fold < 0 or not content["draws"]:
        raise UserError(f"split '{content['split']}' of {dataset.name} has no fold {fold}; it has "
                        f"{', '.join(map(str, range(len(folds))))}")
    first = folds[0]
    validation = first["validation"] if content["validation_held_out"] else None
    return make_fold(first["train"], first["test"], content["strata"], _key(content, fold), validation)


def _labelled(
    dataset: Dataset, content: Mapping[str, Any], lists: Mapping[str, Any], ratio: int, fold: int
) -> list[str]:
    """The labelled list of a fold at a ratio below 100 %."""
    if (given := lists["labelled"].get(str(ratio))) is not None:
        return list(given)
    if not content["strata"]:
        raise UserError(f"split '{content['split']}' of {dataset.name} has no labelled list at {ratio} %; it has "
                        f"{', '.join([*lists['labelled'], '100'])}, or give your own with --labelled FILE")
    return FoldOrder(lists["train"], content["strata"], _key(content, fold)).labelled(ratio)


def _key(content: Mapping[str, Any], fold: int) -> str:
    return f"{content['dataset']}/{content['split']}/{fold}"


def read_ids(path: Path, known: Sequence[str], what: str, refused: Mapping[str, str]) -> list[str]:
    """The ids of a list in the order of `known`, which are all it may hold; what follows a '#' after a blank is a
    comment, unless the whole line is an id.

    what: what the known ids are, for messages; refused: id -> why it may not be listed.
    UserError, with file and line: no text file, an unknown or refused id, one that is listed twice, an empty list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; expected image ids, one a line") from None
    except OSError as error:
        raise UserError(f"{path}: the list cannot be read ({error.strerror})") from None
    place, found = {name: number for number, name in enumerate(known)}, dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        name = unicodedata.normalize("NFC", line.strip())
        name = name if name in place else COMMENT.sub("", name).strip()
        if not name:
            continue
        where = f"{path}, line {number}: '{name[:60]}'"
        if name in refused:
            raise UserError(f"{where} {refused[name]}")
        if name not in place:
            raise UserError(f"{where} is no {what}.{suggest(name, known)}")
        if name in found:
            raise UserError(f"{where} is listed twice (first in line {found[name]})")
        found[name] = number
    if not found:
        raise UserError(f"{path}: the list is empty; expected image ids, one a line")
    return sorted(found, key=place.__getitem__)


def check_split_matches_data(split: Split, prepared: PreparedData) -> list[str]:
    """Whether these data are the ones the split was made for: remarks for the user, none if all is well.

    UserError where an image of the split, or its mask, is missing from the data, and where sets, patients, slides or
    the user's own lists are not what the split was made from. Nothing is asked of the masks of a pool."""
    images_only = prepared.dataset.images_only
    needed = dict.fromkeys((*split.labelled, *split.unlabelled, *split.validation, *split.test))
    present = set(prepared.ids)
    lost = [name for name in needed if name not in present]
    if lost:
        raise UserError(f"split '{split.name}' needs the image {listed(lost)}, which the prepared {prepared.name} in "
                        f"{prepared.folder} lacks; is the data set complete?")
    again = split_command(prepared.dataset)
    bare = [name for name in (*split.labelled, *split.validation, *split.test) if name in prepared.unmasked]
    if bare and not images_only:
        raise UserError(f"split '{split.name}' needs the mask of {bare[0]}, which is not there any more; put it back, "
                        f"or make the lists again with {again}")
    name = split.file
    content = read_split(prepared.dataset, name)
    now = made_from(prepared, name, content["folds"])
    for key, what in (("groups", "sets, patients or slides"), ("lists", "list files that dataset.yaml names")):
        if content["made_from"][key] != now[key]:
            raise UserError(f"split '{name}' of {prepared.name} was made before its {what} were changed; make it again "
                            f"with {again}")
    here, there = prepared.fingerprint_of(name), content["dataset_fingerprint"]
    if there in ("", here) or images_only:
        return []
    marks = f"({here[:12]}, not {there[:12]})"
    if prepared.dataset.home:
        return [f"the images of {prepared.name} have changed since the split '{split.name}' was made {marks}: {again} "
                "makes the lists again, with new images"]
    return [f"your copy of {prepared.name} does not have the pixels that the split '{split.name}' was made from "
            f"{marks}: results may differ"]


def made_from(prepared: PreparedData, split: str, folds: Collection[Mapping[str, Any]]) -> dict[str, str | None]:
    """Digests of what the lists of these folds were made from: the sets of their images and who must not be on both
    sides; and the user's own list files, None where the split has none."""
    listed = {name for fold in folds for part in ("train", "validation", "test") for name in fold[part]}
    rows = zip(prepared.ids, prepared.groups["set"], patients(prepared.ids, prepared.groups), strict=True)
    groups = hashlib.sha256(json.dumps([row for row in rows if row[0] in listed]).encode()).hexdigest()
    dataset = prepared.dataset
    if split not in dataset.own_lists or dataset.home is None:
        return {"groups": groups, "lists": None}
    lists = hashlib.sha256()
    for fold in dataset.own_lists[split]:
        for key, file in (("train", fold.train), ("test", fold.test), ("", fold.validation), *fold.labelled.items()):
            path = dataset.home / file
            lists.update(f"{key} {file} ".encode() + (path.read_bytes() if file and path.is_file() else b""))
    return {"groups": groups, "lists": lists.hexdigest()}


def default_split(dataset: Dataset) -> str:
    """`official` where the data set has it or has none yet, else the first of its splits."""
    known = split_names(dataset)
    return "official" if "official" in known or not known else known[0]


def split_names(dataset: Dataset) -> list[str]:
    """The splits that have a file."""
    return sorted(path.stem for path in dataset.splits_folder.glob("*.json") if not path.name.startswith("."))


def split_command(dataset: Dataset) -> str:
    """What makes the files."""
    return f"'python -m benchmark data split {shlex.quote(dataset.source)} --write'"


def read_split(dataset: Dataset, split: str) -> dict[str, Any]:
    """A split's file. UserError: there is none, or it is not as it was written."""
    known = split_names(dataset)
    if split not in known:
        has = f"It has {', '.join(known)}"
        if not known:
            has = f"None is made yet: {split_command(dataset)} does it where its images are"
        raise UserError(f"{dataset.name} has no split '{split}'.{suggest(split, known)} {has}.")
    path = dataset.splits_folder / f"{split}.json"
    restore = f"make it again with {split_command(dataset)}" if dataset.home else "restore it with git"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        claimed = content.pop("fingerprint")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a split file ({error}); {restore}") from None
    if digest_of(content) != claimed:
        raise UserError(f"{path}: the lists do not have their fingerprint, the file was edited; {restore}, or give "
                        "your own list with --labelled FILE")
    return content


def digest_of(content: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
