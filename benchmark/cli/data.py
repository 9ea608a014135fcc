"""`data`: describe, prepare, check, preview and split data sets."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK, UserError

if TYPE_CHECKING:
    from benchmark.data.dataset import Tile
    from benchmark.data.store import PreparedData

logger = logging.getLogger(__name__)


def add(verbs: shared.Verbs) -> None:
    """Describe the verb and what it does with data."""
    actions = shared.add_group(verbs, "data", "describe, prepare, check, preview or split a data set", "ACTION")
    about = "look at a folder of images/ and masks/ and write a first dataset.yaml"
    fresh = shared.add_verb(actions, "new", about, new)
    fresh.add_argument("folder", help="where images/ and masks/ lie, and dataset.yaml is written")
    fresh.add_argument("--images", default="", metavar="PATTERN", help="where images lie instead: a folder with all of "
                       "them and of the masks, or as in '{grade}/image/{name}'")
    fresh.add_argument("--masks", default="", metavar="PATTERN",
                       help="where their masks lie, as in '{grade}/label/{name}'")
    fresh.add_argument("--follow-links", action="store_true", help="links may lead out of the folder")
    preparing = shared.add_verb(actions, "prepare", "read, check and resize a data set into arrays", prepare)
    checking = shared.add_verb(actions, "check", "show what will be trained on, and what looks wrong", check)
    shown = shared.add_verb(actions, "preview", "draw a contact sheet with the masks' outlines", preview)
    split = shared.add_verb(actions, "split", "make the lists of training and test images, or compare them with the "
                            "files", make_splits)
    for tiled in (fresh, preparing):
        tiled.add_argument("--tile", type=int, metavar="SIZE", help="cut large images into squares of SIZE pixels")
        tiled.add_argument("--overlap", type=int, default=0, metavar="N", help="pixels they share (default: 0)")
    for action in (preparing, checking, shown, split):
        action.add_argument("name", help=shared.DATASET)
        source = action.add_mutually_exclusive_group()
        source.add_argument("--from", dest="source", metavar="FOLDER_OR_ZIP", help="folder or archive of the raw data")
        shared.add_options(source, "--data")
        action.add_argument("--size", type=int, default=256, help="working size in pixels (default: 256)")
    shared.add_options(checking, "--json")
    shown.add_argument("--output", metavar="PNG", help="default: NAME-SIZE.png")
    chosen = shown.add_mutually_exclusive_group()
    chosen.add_argument("--count", type=int, default=40, help="how many images (default: 40)")
    chosen.add_argument("--ids", metavar="ID,ID", help="these images, in this order")
    shown.add_argument("--split", help="show the part of each image in this split; see `list splits`")
    shared.add_options(shown, "--fold", "--ratio", "--labels")
    split.add_argument("--folds", type=int, metavar="K", help="with --write: also a cross-validation of K folds, "
                       "as the split patients_K or folds_K")
    what = split.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write configs/splits/NAME/*.json, or FOLDER/splits/*.json")
    what.add_argument("--check", action="store_true", help="compare with the files (the default)")


def _load(arguments: argparse.Namespace, read: bool = False) -> PreparedData:
    """The prepared data; `read`: every file is read, also where none seems to have changed."""
    from benchmark.data.load import load_dataset, load_prepared

    dataset = load_dataset(arguments.name)
    if arguments.source and dataset.home:
        raise UserError(f"--from {arguments.source}: {arguments.name} is the folder itself; leave out --from")
    return load_prepared(dataset, arguments.size, raw=arguments.source or arguments.data, read=read)


def _tile(arguments: argparse.Namespace) -> Tile | None:
    from benchmark.data.dataset import Tile

    if arguments.tile is None:
        if arguments.overlap:
            raise UserError(f"--overlap {arguments.overlap}: give --tile SIZE, too")
        return None
    try:
        return Tile(size=arguments.tile, overlap=arguments.overlap)
    except ValueError:
        raise UserError(f"--tile {arguments.tile} --overlap {arguments.overlap}: tiles need a size of 16 pixels or "
                        "more and an overlap below it") from None


def new(arguments: argparse.Namespace) -> int:
    """Write a first dataset.yaml, and say what was seen and guessed."""
    from benchmark.data.new_folder import new, set_tile

    folder, tile = Path(arguments.folder), _tile(arguments)
    print("\n".join(new(folder, arguments.images, arguments.masks, arguments.follow_links)))
    if tile:
        print(set_tile(folder, tile))
    return OK


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare, and say where the arrays are."""
    from benchmark.data.load import load_dataset
    from benchmark.data.new_folder import set_tile

    if tile := _tile(arguments):
        dataset = load_dataset(arguments.name)
        if dataset.home is None:
            raise UserError(f"--tile: {dataset.name} is prepared whole, as released; tiles are for folders with a "
                            "dataset.yaml")
        logger.info(set_tile(dataset.home, tile))
    prepared = _load(arguments, read=True)
    tiles = f" in {len(prepared.images)} tiles" if prepared.dataset.tile else ""
    print(f"{prepared.name}: {len(prepared.ids)} images{tiles} at {prepared.size} px in {prepared.folder}")
    return OK


def check(arguments: argparse.Namespace) -> int:
    """Print the description; exit code 4 where a split tests on what it learns from."""
    from benchmark.data.check import check_dataset, describe, has_errors

    facts = check_dataset(_load(arguments, read=True))
    shared.show(arguments, facts, describe(facts))
    return CHECK_FAILED if has_errors(facts) else OK


def preview(arguments: argparse.Namespace) -> int:
    """Write the contact sheet."""
    from benchmark.config.schema import Labels
    from benchmark.data.annotation import annotate, with_annotation
    from benchmark.data.preview import preview as draw
    from benchmark.data.splits import load_split

    if arguments.labels is not None and not arguments.split:
        raise UserError("--labels: name a --split, which says which images are labelled")
    prepared = _load(arguments)
    dataset = prepared.dataset
    split = load_split(dataset, arguments.split, arguments.ratio, arguments.fold) if arguments.split else None
    if arguments.labels is not None and split is not None:
        prepared = with_annotation(prepared, annotate(prepared, split.labelled, Labels(arguments.labels), split.fold))
    path = Path(arguments.output or f"{prepared.name}-{prepared.size}.png")
    ids = [name.strip() for name in arguments.ids.split(",")] if arguments.ids else None
    print(draw(prepared, path, ids=ids, count=arguments.count, split=split))
    return OK


def make_splits(arguments: argparse.Namespace) -> int:
    """Write or compare the split lists."""
    from benchmark.data.make_splits import compare, write

    if arguments.folds is not None and not (arguments.write and arguments.folds > 1):
        raise UserError(f"--folds {arguments.folds}: a number from 2 on, with --write")
    prepared = _load(arguments)
    if arguments.write:
        print("\n".join(write(prepared, arguments.folds)))
        return OK
    fine, lines = compare(prepared)
    print("\n".join(lines))
    return OK if fine else CHECK_FAILED
