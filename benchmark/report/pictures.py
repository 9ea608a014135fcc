"""Which images a panel shows, chosen by rule and never by hand, and where their pixels come from."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.report.cells import Group, Run
from benchmark.report.figures import Case, panel


def choose_images(scores: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """{rule: image id} from scores {method: {image: Dice}}, over the images that all methods have.

    `median` and `worst decile`: the image in that place when ordered by its mean over methods. `largest disagreement`:
    the greatest difference between two methods. No image is shown twice; equals go by their names.
    """
    common = set.intersection(*(set(by_image) for by_image in scores.values())) if scores else set()
    table = {name: [by_image[name] for by_image in scores.values()] for name in common}
    ordered = sorted(table, key=lambda name: (float(np.mean(table[name])), name))
    divided = sorted(table, key=lambda name: (min(table[name]) - max(table[name]), name))
    last = len(ordered) - 1
    wishes = {
        "median": sorted(ordered, key=lambda name: abs(ordered.index(name) - last // 2)),
        "worst decile": sorted(ordered, key=lambda name: abs(ordered.index(name) - last // 10)),
        "largest disagreement": divided if len(scores) > 1 else [],
    }
    chosen: dict[str, str] = {}
    for rule, candidates in wishes.items():
        free = [name for name in candidates if name not in chosen.values()]
        if free:
            chosen[rule] = free[0]
    return chosen


def draw_panel(group: Group, results: Path, path: Path) -> tuple[Path | None, str]:
    """The panel at the label ratio that most methods have (the smallest of equals), or None and why there is none."""
    from benchmark.data.prepared import load
    from benchmark.runs.folder import load_masks

    ratio, runs = _representatives(group, results)
    if not runs:
        return None, "no finished run has its masks here"
    try:
        prepared = load(group.dataset, runs[0].spec["values"]["data.size"], prepare=False)
    except (UserError, KeyError) as error:
        return None, f"the images are not here ({error})"
    if prepared.fingerprint != group.fingerprint:
        return None, "the prepared images are not those of the runs"
    scores = {}
    for run in runs:
        images = group.images(run.label, ratio)
        scores[run.label] = dict(zip(images.ids, images.values.tolist(), strict=True))
    chosen = choose_images(scores)
    if not chosen:
        return None, "no test image is common to all methods"
    predictions: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in chosen.values()}
    for run in runs:
        try:
            masks = load_masks(results / "runs" / run.record["run_id"] / "masks.npz")
            for name, column in predictions.items():
                column.append(masks[name])
        except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile) as error:
            return None, f"the masks of {run.record['run_id']} are damaged ({error})"
    cases = [
        Case(
            f"{rule}: {name}",
            np.asarray(prepared.images[prepared.position(name)]),
            prepared.native(name) > 0,
            predictions[name],
        )
        for rule, name in chosen.items()
    ]
    columns = [f"{run.label}, {ratio} %, fold {run.draw[0]}" for run in runs]
    return panel(columns, cases, path), ""


def may_be_published(dataset: str) -> bool:
    """Whether pictures of this data set may lie in the repository: only where the data set itself says so."""
    from benchmark.data.dataset import load_dataset

    try:
        return bool(getattr(load_dataset(dataset), "publishable", False))
    except UserError:
        return False


def _representatives(group: Group, results: Path) -> tuple[int, list[Run]]:
    """The ratio, and the first draw of every method there whose masks were kept."""
    best: tuple[int, list[Run]] = (0, [])
    for ratio in group.ratios:
        runs = []
        for label in group.labels:
            kept = [
                run
                for run in group.finished(label, ratio)
                if (results / "runs" / run.record["run_id"] / "masks.npz").is_file()
            ]
            runs += kept[:1]
        if len(runs) > len(best[1]):
            best = ratio, runs
    return best
