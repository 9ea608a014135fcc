"""Unlabelled images from elsewhere: pools beside a data set's own unlabelled images, or instead of them.

A pool gives images alone: its masks are neither looked for nor read. Of a known data set it is the training images of
the run's fold, so that a patient of both is on one side. They are resized whole like all images, whatever their scale.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from benchmark.data.dataset import Dataset, ImagePool, check_colours
from benchmark.data.folder_dataset import FILE, default_name
from benchmark.data.images import PLAIN, PixelDecoding
from benchmark.data.load import load_dataset, load_prepared, names
from benchmark.data.splits import Split, check_split_matches_data, digest_of
from benchmark.data.store import PreparedData, Rows, scales_differ
from benchmark.errors import UserError
from benchmark.registry import is_path

OWN = "own"  # the data set's own unlabelled images
LEAST = 2  # images of a pool
logger = logging.getLogger(__name__)


class FolderPool(ImagePool):
    """Any folder of images."""

    why_unlabelled = "it is a folder of images alone"

    def __init__(self, folder: Path) -> None:
        self.home, self.name, self.source = folder, default_name(folder), str(folder)


def load_pool(given: str, decoding: PixelDecoding = PLAIN) -> Dataset:
    """The pool that a user names: a data set, or a folder of images, which are read by `decoding`. UserError where
    there is none."""
    folder = Path(given)
    if given not in names() and folder.is_file() and folder.name != FILE and not is_path(given):
        raise UserError(f"{given}: is a file; a pool is a folder of images, or a data set")
    bare = given not in names() and folder.is_dir() and not (folder / FILE).is_file()
    pool = FolderPool(folder) if bare else load_dataset(given)
    pool.images_only = True
    if isinstance(pool, ImagePool):
        pool.decoding = decoding
    return pool


def check_pools(
    dataset: Dataset, given: Sequence[str], load: Callable[[str, PixelDecoding], Dataset] = load_pool,
) -> list[Dataset]:
    """The pools that `data.unlabelled` names for a data set. UserError where it names nothing, something twice, the
    data set itself, or what is read in colour beside grey images."""
    pools = [load(name, dataset.decoding) for name in given if name != OWN]
    advice = f"`{OWN}` stands for the unlabelled images of {dataset.name}, as in {OWN},ebhi_gland"
    check_distinct("data.unlabelled", given, [dataset.name, *(pool.name for pool in pools)], advice)
    if not given:
        raise UserError(f"data.unlabelled names nothing; {advice}")
    for pool in pools:
        check_colours(pool, dataset.decoding, f"{dataset.name} reads its images")
    return pools


def check_distinct(setting: str, given: Sequence[str], names: Sequence[str], advice: str) -> None:
    """UserError where `given` is a word twice, or two of its data sets have one of these names."""
    twice = [name for name, number in [*Counter(names).items(), *Counter(given).items()] if number > 1]
    if twice:
        raise UserError(f"{setting}={','.join(given)}: '{twice[0]}' is there twice, or is the name of --dataset; give "
                        f"different names (of a folder its last part counts); {advice}")


def join(
    prepared: PreparedData, split: Split, pools: Sequence[tuple[Dataset, Split]], *, own: bool,
    raw: str | Path | None = None, scored: Sequence[tuple[PreparedData, Sequence[str]]] = (),
) -> tuple[PreparedData, Split]:
    """The data and lists of a run with the training images of `pools` after its own, called <pool>:<id>; its own
    unlabelled ones are left out unless `own`.

    scored: images of other data that no pool may have either, beside the run's test and validation images.
    UserError: a pool of one image, a file that cannot be read, an image that is scored (by its pixels)."""
    forbidden = {
        data.hashes[data.position(name)]: f"{name} of {data.name}"
        for data, listed in [(prepared, (*split.test, *split.validation)), *scored] for name in listed
    }
    parts: list[tuple[PreparedData, Sequence[str]]] = [(prepared, prepared.ids)]
    for pool, lists in pools:
        data = load_prepared(pool, prepared.size, raw=raw).part(lists.file)
        if not pool.why_unlabelled:
            check_split_matches_data(lists, data)
        parts.append((data, data.ids if pool.why_unlabelled else (*lists.labelled, *lists.unlabelled)))
        _check(*parts[-1], forbidden)
        here, there = prepared.native_size(prepared.ids), data.native_size(parts[-1][1])
        if scales_differ(here, there):
            logger.warning("image scale of %s differs: before resizing to %d px, its images have %d x %d px (median), "
                           "those of %s %d x %d", pool.name, data.size, *there[::-1], prepared.name, *here[::-1])
    each = [(data, name, data.position(name)) for data, ids in parts for name in ids]
    names = tuple(f"{data.name}:{name}" for data, name, _ in each[len(prepared.ids):])
    joined = replace(
        prepared, images=cast(Any, Rows(*((data.images, data.rows_of(ids)) for data, ids in parts))),
        masks=cast(Any, Rows(*((data.masks, data.rows_of(ids)) for data, ids in parts))), ids=prepared.ids + names,
        groups={key: (*values, *([""] * len(names))) for key, values in prepared.groups.items()},
        arrays_fingerprint=digest_of([[data.arrays_fingerprint, ids] for data, ids in parts]),
        native_sizes=tuple(data.native_sizes[place] for data, _, place in each),
        hashes=tuple(data.hashes[place] for data, _, place in each), unmasked=prepared.unmasked | {*names},
        tiles=tuple(data.tiles[place] for data, _, place in each), pools=tuple(data for data, _ in parts[1:]),
    )  # fmt: skip
    lists_of = tuple(lists.fingerprint for _, lists in pools)
    return joined, replace(split, unlabelled=split.unlabelled if own else (), pool=names, pool_fingerprints=lists_of)


def _check(pool: PreparedData, ids: Sequence[str], forbidden: Mapping[str, str]) -> None:
    """UserError for a pool of too few images, or with images that a run is scored on: their hashes -> what they are."""
    if len(ids) < LEAST:
        raise UserError(f"{pool.dataset.source}: has too few images ({len(ids)}); a pool needs {LEAST} or more")
    seen = [(name, forbidden[mark]) for name, mark in zip(ids, pool.hashes_of(ids), strict=True) if mark in forbidden]
    if seen:
        raise UserError(f"{pool.dataset.source}: {len(seen)} of its images are test or validation images, pixel for "
                        f"pixel ({seen[0][0]} is {seen[0][1]}); take them out, since nothing may be learned from them")


def sources(prepared: PreparedData, split: Split) -> list[dict[str, Any]]:
    """What a run with pools learns from, for its record: its own data set first, then each pool."""
    own = facts(prepared, (*split.labelled, *split.unlabelled))
    found = [own | {"labelled": len(split.labelled), "unlabelled": len(split.unlabelled)}]
    for pool, lists in zip(prepared.pools, split.pool_fingerprints, strict=True):
        ids = [name.removeprefix(f"{pool.name}:") for name in split.pool if name.startswith(f"{pool.name}:")]
        found.append(facts(pool, ids) | {"unlabelled": len(ids), "split_fingerprint": lists})
    return found


def facts(prepared: PreparedData, ids: Sequence[str]) -> dict[str, Any]:
    """Domain and scale of some images. native_size: the median (H, W) before they are resized, microns_per_pixel: of
    these; null where it is not known."""
    dataset = prepared.dataset
    return {"dataset": dataset.name, "domain": dataset.domain, "native_size": list(prepared.native_size(ids)),
            "microns_per_pixel": dataset.microns_per_pixel, "fingerprint": prepared.fingerprint}
