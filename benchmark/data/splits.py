"""Splits: which images a run learns from with labels, which without, which choose its epoch and which test it.

They are lists in files, verified against their fingerprint when read: configs/splits/<dataset>/<split>.json, which are
committed, and of a folder of one's own <folder>/splits/<split>.json.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.dataset import Dataset
from benchmark.data.fold_lists import VALIDATION
from benchmark.data.id_lists import lines_of
from benchmark.data.make_splits import make_all
from benchmark.data.store import PreparedData
from benchmark.errors import UserError, suggest
from benchmark.files import write_text

WIDTH = 110  # of the lines of a file


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
    dataset: Dataset, split: str, ratio: int, fold: int, *, labelled_file: str | Path | None = None
) -> Split:
    """The lists of one run. `ratio` is of the training images that have a mask: at 100 % the others are unlabelled.

    Validation images are also unlabelled training images (as in the published counts 9 + 76 and 17 + 68 of GlaS)
    unless the split holds them out. With `labelled_file` (ids, one a line) the
    labelled list is the user's own, `ratio` follows from its length and the name becomes "<split>+<8 hex of it>".
    UserError: a split, ratio or fold that does not exist (says which do), an edited file, a bad list of one's own.
    """
    content = _read(dataset, split)
    folds = content["folds"]
    if fold not in range(len(folds)):
        raise UserError(f"split '{split}' of {dataset.name} has no fold {fold}; it has {_spoken(range(len(folds)))}")
    lists = folds[fold]
    train, validation, test = lists["train"], lists["validation"], lists["test"]
    unmasked = set(lists.get("unmasked", ()))
    masked = [name for name in train if name not in unmasked]
    held_out = set(validation) if content["validation_held_out"] else set()
    if labelled_file is not None:
        labelled = read_list(Path(labelled_file), train, test, unmasked)
        held_out -= set(labelled)
        validation = [name for name in validation if name not in set(labelled)]
        split += "+" + hashlib.sha256("\n".join(labelled).encode()).hexdigest()[:8]
        ratio = 100 if len(labelled) == len(masked) else min(99, max(1, round(100 * len(labelled) / len(masked))))
    else:
        ratios = [*map(int, lists["labelled"]), 100]
        if ratio not in ratios:
            raise UserError(f"split '{split}' of {dataset.name} has no labelled list at {ratio} %; it has "
                            f"{_spoken(ratios)}, or give your own with --labelled FILE")
        labelled = [name for name in masked if name not in held_out] if ratio == 100 else lists["labelled"][str(ratio)]
        if ratio > VALIDATION and not held_out:
            validation = []
    known = held_out | set(labelled)
    unlabelled = [name for name in train if name not in known]
    digest = _digest([labelled, unlabelled, validation, test])
    return Split(
        split, ratio, fold, tuple(labelled), tuple(unlabelled), tuple(validation), tuple(test), fingerprint=digest
    )


def check_split_matches_data(split: Split, prepared: PreparedData) -> list[str]:
    """Whether these data are the ones the split was made for: remarks for the user, none if all is well.

    UserError where an image of the split is missing from the data."""
    needed = (*split.labelled, *split.unlabelled, *split.validation, *split.test)
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
    content = _read(prepared.dataset, split.name.partition("+")[0])
    if content["dataset_fingerprint"] == prepared.fingerprint:
        return []
    marks = f"({prepared.fingerprint[:12]}, not {content['dataset_fingerprint'][:12]})"
    if prepared.dataset.home:
        return [f"{prepared.name} is not what the split '{split.name}' was made from {marks}: "
                f"{_command(prepared.dataset)} makes the lists anew, with what was added"]
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


def read_list(path: Path, train: Iterable[str], test: Iterable[str], unmasked: Iterable[str] = ()) -> list[str]:
    """A user's own labelled list; see `lines_of` for its form."""
    training, testing, bare = list(train), set(test), set(unmasked)
    found: dict[str, int] = {}
    for number, name in lines_of(path):
        where = f"{path}, line {number}: '{name[:60]}'"
        if name in testing:
            raise UserError(f"{where} is a test image of this split; it must not be learned from")
        if name not in training:
            raise UserError(f"{where} is no training image of this split.{suggest(name, training)}")
        if name in bare:
            raise UserError(f"{where} has no mask; it can only be an unlabelled training image")
        if name in found:
            raise UserError(f"{where} is listed twice (first in line {found[name]})")
        found[name] = number
    if not found:
        raise UserError(f"{path}: the labelled list is empty; expected image ids, one a line")
    return sorted(found, key=training.index)  # the file's order does not matter


def write(prepared: PreparedData) -> list[str]:
    """Make and write every split of a data set; a line for each file."""
    lines = []
    for name, content in make_all(prepared).items():
        path = prepared.dataset.splits_folder / f"{name}.json"
        text = _text({**content, "fingerprint": _digest(content)})
        other = path.is_file() and path.read_bytes() != text.encode()
        write_text(path, text)
        lines.append(f"wrote {path}" + " over another version of it" * other)
    return lines


def compare(prepared: PreparedData) -> tuple[bool, list[str]]:
    """Whether the committed files are what `make_all` gives from these data, and a line for each."""
    fine, lines = True, []
    made = make_all(prepared)
    for name in sorted({*made, *_splits(prepared.dataset)}):
        path = prepared.dataset.splits_folder / f"{name}.json"
        if name not in made or not path.is_file():
            fine, verdict = False, "not a split that is made" if name not in made else "missing; use --write"
        else:
            held = _read(prepared.dataset, name)
            same = held["folds"] == made[name]["folds"]
            fine &= same
            verdict = "the same lists" if same else "DIFFERENT lists; use --write if that is meant"
            if held["dataset_fingerprint"] != prepared.fingerprint:
                verdict += ", made from other pixels"
        lines.append(f"{prepared.name}/{name}: {verdict}")
    return fine, lines


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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        claimed = content.pop("fingerprint")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a split file ({error}); {_restore(dataset)}") from None
    if _digest(content) != claimed:
        raise UserError(f"{path}: the lists do not have their fingerprint, the file was edited; {_restore(dataset)}, "
                        "or give your own list with --labelled FILE")
    return content


def _restore(dataset: Dataset) -> str:
    return f"make it anew with {_command(dataset)}" if dataset.home else "restore it with git"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _text(value: Any, indent: str = "") -> str:
    """JSON to be read: one key a line, lists of ids in lines of WIDTH."""
    deeper = indent + "  "
    if isinstance(value, dict):
        inner = ",\n".join(f"{deeper}{json.dumps(key)}: {_text(part, deeper).lstrip()}" for key, part in value.items())
        text = f"{{\n{inner}\n{indent}}}"
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        text = "[\n" + "\n".join(_wrapped([json.dumps(part) for part in value], deeper)) + f"\n{indent}]"
    elif isinstance(value, list):
        text = "[\n" + ",\n".join(deeper + _text(part, deeper) for part in value) + f"\n{indent}]"
    else:
        text = json.dumps(value)
    return text if indent else text + "\n"


def _wrapped(words: list[str], indent: str) -> list[str]:
    """Lines of words with commas between them, broken between words alone: there may be blanks in one."""
    lines: list[str] = []
    for number, word in enumerate(words):
        word += "," * (number < len(words) - 1)
        if lines and len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return lines or [""]


def _spoken(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
