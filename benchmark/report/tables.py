"""Score tables of a group of runs: by label ratio under a protocol, by object, and the runs that have no score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from benchmark.protocols import everything_is_foreground
from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.table import NOTHING, Strong, Table

EVERYTHING = "everything is foreground (no model)"
FEW_UNITS = 30  # below, a percentile bootstrap is known to cover clearly less than 95 %
MEANING = {
    "strict": "last step, argmax, every test image by itself at its native size, mean over images",
    "validation": "step and threshold with the best pooled Jaccard on validation images; test pixels pooled at "
    "working size",
    "paper": "step, threshold and output with the best pooled Jaccard on the test images themselves; test pixels "
    "pooled at working size; an upper bound that nobody can choose without the test masks",
}
OBJECTS = {
    "object_f1": ("object F1", 100.0),
    "object_dice": ("object Dice", 100.0),
    "object_hausdorff": ("object Hausdorff", 1.0),
    "hd95": ("HD95", 1.0),
    "asd": ("ASD", 1.0),
}


def score_table(
    group: Group, protocol: str, metric: str = "dice", strong: Mapping[int, str | None] | None = None
) -> Table:
    """Rows are methods, columns label ratios; mean ± sd over draws with n, and under `strict` an interval.

    strong: the row of each ratio that is set in bold.
    """
    best = strong or {}
    rows: list[Sequence[str]] = []
    for label in group.labels:
        cells = {ratio: score_cell(group, label, ratio, protocol, metric) for ratio in group.ratios}
        rows.append([label, *(Strong(text) if best.get(ratio) == label else text for ratio, text in cells.items())])
    caption = (
        f"Protocol {protocol}: {MEANING[protocol]}. Percent; mean ± sd (ddof 1) over draws (fold, seed), n draws, "
        "or (k/n) where only k of n have a score."
    )
    if protocol == "strict":
        if any("classes" in run.counts for run in group.runs):
            caption += " An image's score is the mean over its classes but the background."
        caption += f" [95 % interval]: every image averaged over draws, then {resampled_units(group)}."
        caption += " Bold: above the runner-up beyond chance, in every draw."
        if metric == "dice":
            rows += _everything(group)
    else:
        caption += " No interval: counts per image are kept for the last step only."
    header = ["method", *(ratio_header(group, ratio) for ratio in group.ratios)]
    notes = [*_left_out(group, protocol), *_not_there(group)]
    return Table(f"{metric.capitalize()}, {protocol}", caption, header, rows, notes)


def score_cell(group: Group, label: str, ratio: int, protocol: str, metric: str) -> str:
    """One cell, e.g. `81.23 ± 0.45 (n=3) [78.90, 83.10]`; without a score it says why."""
    finished, wanted = group.finished(label, ratio), group.draws(label, ratio)
    values = [run.scores[protocol][metric] for run in finished]
    found = stats.summary(100 * value for value in values if value is not None)
    if not found.n:
        why = [*states(group, label, ratio), *(["no score"] if finished else [])]
        return f"{', '.join(why) or NOTHING} (0/{wanted})" if wanted else NOTHING
    text = f"{spread(found)} ({found.n}/{wanted})" if found.n < wanted else f"{spread(found)} (n={found.n})"
    bounds = stats.interval(group.images(label, ratio, metric)) if protocol == "strict" else None
    return text + (f" [{number(100 * bounds.low)}, {number(100 * bounds.high)}]" if bounds else "")


def states(group: Group, label: str, ratio: int) -> list[str]:
    """What became of the runs of a cell that have no scores: each state once."""
    ended = {str(run.record["status"]) for run in group.cell(label, ratio) if not run.done}
    return sorted(ended | {entry.missing for entry in group.lost(label, ratio)})


def object_table(group: Group) -> Table | None:
    """GlaS-challenge object scores and surface distances, where they were measured."""
    rows, left_out = [], 0
    for label in group.labels:
        for ratio in group.ratios:
            measured = [
                run.scores["strict"]
                for run in group.finished(label, ratio)
                if "object_f1" in run.scores["strict"]
            ]
            if not measured:
                continue
            cells, wanted = [], group.draws(label, ratio)
            for key, (_, factor) in OBJECTS.items():
                known = [scores[key] for scores in measured if scores.get(key) is not None]
                found = stats.summary(factor * value for value in known)
                cells.append(spread(found) + (f" ({found.n}/{wanted})" if found.n < wanted else f" (n={found.n})"))
                left_out += sum(scores.get(f"{key}_excluded", 0) for scores in measured)
            rows.append([label, f"{ratio} %", *cells])
    if not rows:
        return None
    caption = (
        "Mean over test images at native size; mean ± sd over draws, n draws, or (k/n) where only k of n have it. "
        "Object scores as in the GlaS challenge (Sirinukunwattana et al. 2017), the objects of a prediction being its "
        "8-connected components. F1 and Dice in percent, distances in pixels."
    )
    notes = [f"{left_out} single values are undefined or infinite (an empty side) and left out."] if left_out else []
    header = ["method", "labels", *(title for title, _ in OBJECTS.values())]
    return Table("Objects and outlines, strict", caption, header, rows, notes)


def failure_table(group: Group) -> Table | None:
    """Every run that ended without a score or was left out, and why; what is merely missing is told in the cells."""
    rows = [
        [
            run.label,
            f"{run.spec['ratio']} %",
            *map(str, run.draw),
            str(run.record["status"]),
            str(run.record.get("reason") or "no reason given"),
        ]
        for run in group.runs
        if not run.done
    ]
    rows += [
        [entry.row, f"{entry.spec['ratio']} %", *map(str, entry.draw), entry.missing, entry.reason]
        for entry in group.wanted
        if entry.missing in ("stale", "excluded")
    ]
    if not rows:
        return None
    header = ["method", "labels", "fold", "seed", "status", "reason"]
    return Table("Runs without a score", "They are in no mean above.", header, rows)


def ratio_header(group: Group, ratio: int) -> str:
    """e.g. `10 % (9+76)`: labelled and unlabelled images, where all runs agree about them."""
    data = [run.record["data"] for run in group.runs if run.spec["ratio"] == ratio]
    sizes = {(entry.get("labelled"), entry.get("unlabelled")) for entry in data}
    labelled, unlabelled = sizes.pop() if len(sizes) == 1 else (None, None)
    return f"{ratio} %" + (f" ({labelled}+{unlabelled})" if labelled is not None else "")


def resampled_units(group: Group) -> str:
    """What an interval resamples, in words; with a warning where it is too little."""
    patients = {name for run in group.runs if run.done for name in run.per_image("dice")[1] if name}
    times = f"resampled {stats.RESAMPLES:,} times"
    if not patients:
        return f"images (no patients are known) {times}"
    warning = " (few: it covers less than it says)" if len(patients) < FEW_UNITS else ""
    return f"{len(patients)} patients {times}{warning}"


def spread(found: stats.Summary) -> str:
    """`mean ± sd`, or the mean alone of a single value."""
    return number(found.mean) + (f" ± {number(found.sd)}" if found.n > 1 else "")


def number(value: float) -> str:
    """Two decimals, a dash for nan."""
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def _everything(group: Group) -> list[Sequence[str]]:
    """The score of no model at all; no row where no run stored what it takes."""
    cells = []
    for ratio in group.ratios:
        runs = [run for run in group.runs if run.done and run.spec["ratio"] == ratio]
        known = [score for run in runs if (score := everything_is_foreground(run.counts)) is not None]
        cells.append(number(stats.summary(100 * score for score in known).mean))
    return [[EVERYTHING, *cells]] if set(cells) - {NOTHING} else []


def _not_there(group: Group) -> list[str]:
    """A note on the runs that are wanted and not there yet."""
    states = Counter(entry.missing for entry in group.wanted if entry.missing in ("missing", "running"))
    if not states:
        return []
    counted = " and ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return [f"Of {len(group.wanted)} runs {counted}."]


def _left_out(group: Group, protocol: str) -> list[str]:
    """Notes on scores that do not exist."""
    scores = [run.scores[protocol] for run in group.runs if run.done]
    notes = [f"No score: {reason}." for reason in sorted({entry["reason"] for entry in scores if "reason" in entry})]
    undefined = sum(entry.get("undefined", 0) for entry in scores)
    if undefined:
        notes.append(f"{undefined} scores of single images are undefined (nothing there, nothing predicted), left out.")
    return notes
