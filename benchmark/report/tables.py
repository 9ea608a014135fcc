"""The tables of a group: scores under a protocol, by class, subset and object, the costs, and runs without a score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from benchmark.protocols import MEANING, everything_is_foreground
from benchmark.report.compare import best, resampled_units
from benchmark.report.render import DASH, Bold, Table, between, cell, number
from benchmark.report.results_frame import CELL, Group

EVERYTHING = "everything is foreground (no model)"
SUBSETS = range(2, 7)  # one value tells nothing apart; more than six are no table
OBJECTS = {
    "object_f1": ("object F1", 100.0),
    "object_dice": ("object Dice", 100.0),
    "object_hausdorff": ("object Hausdorff", 1.0),
    "hd95": ("HD95", 1.0),
    "asd": ("ASD", 1.0),
}
COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters_trained": ("parameters trained", "{:,.0f}".format),
    "parameters_inference": ("at inference", "{:,.0f}".format),
    "flops_per_step": ("GFLOPs a step", lambda value: f"{value / 1e9:,.1f}"),
    "peak_memory_bytes": ("peak memory (GiB)", lambda value: f"{value / 2**30:.2f}"),
    "seconds_per_step": ("seconds a step", "{:.4f}".format),
    "images_per_second": ("labelled images a second", "{:,.1f}".format),
    "wall_seconds": ("seconds a run", "{:,.1f}".format),
}
OVER_DRAWS = "mean ± sd (ddof 1) over draws, n draws, or (k/n) where only k of n have a score there."


def score_table(group: Group, protocol: str, metric: str = "dice") -> Table:
    """Rows are methods, columns label ratios; mean ± sd over draws with n, and under `strict` an interval."""
    text = score_cells(group, protocol, metric).unstack("ratio").reindex(group.rows, columns=list(group.ratios))
    rows: list[Sequence[str]] = [[group.display(row), *cells] for row, *cells in text.fillna(DASH).itertuples()]
    caption = (
        f"Protocol {protocol}: {MEANING[protocol]}. Percent; mean ± sd (ddof 1) over draws (fold, seed), n draws, "
        "or (k/n) where only k of n have a score."
    )
    if protocol == "strict":
        if any("classes" in run.counts for run in group.runs):
            caption += " An image's score is the mean over its classes but the background."
        caption += f" [95 % interval]: every image averaged over draws, then {resampled_units(group)}."
        caption += (" Bold: with two or more draws, none missing, above each other row in every draw, and the "
                    "intervals of these differences are above 0 (not adjusted).")  # fmt: skip
        if metric == "dice":
            rows += _everything(group)
    else:
        caption += " No interval: counts per image are kept for the last step only."
    caption += _made_on(group)
    header = ["method", *(group.ratio_header(ratio) for ratio in group.ratios)]
    notes = [*_undefined(group, protocol), *_not_there(group)]
    return Table(f"{metric.capitalize()}, {protocol}", caption, header, rows, notes)


def score_cells(group: Group, protocol: str, metric: str = "dice") -> pd.Series:
    """The text of every cell (row, ratio), e.g. `81.23 ± 0.45 (n=3) [78.90, 83.10]`; without a score it says why."""
    stands_out = {(best(group, ratio, protocol, metric), ratio) for ratio in group.ratios}

    def text(found: Any) -> str:
        if found["n"]:
            shown = cell(found) + between(found)
            return Bold(shown) if found.name in stands_out else shown
        why = [*found["states"], *(["no score"] if found["finished"] else [])]
        return f"{', '.join(why) or DASH} (0/{found['expected']})"

    cells = group.cell_scores(protocol, metric)
    return pd.Series([text(found) for _, found in cells.iterrows()], cells.index, object)


def class_table(group: Group) -> Table | None:
    """Each class against the rest under `strict`; None of two classes."""
    names = list(dict.fromkeys(str(name) for run in group.done for name in run.counts.get("classes", ())))
    if not names:
        return None
    chosen = group.scores[(group.scores["class"] != "") & (group.scores.metric == "dice")]
    caption = (
        "Dice in percent of each class against the rest, under strict: mean over the test images "
        f"where the class is there or predicted, then {OVER_DRAWS} The tables above average an image over its classes "
        "first."
    )
    rows = by_value(group, chosen.groupby([*CELL, "run_id", "class"]).value.first(), names)
    return Table("Dice by class, strict", caption, ["method", "labels", *names], rows)


def subset_tables(group: Group) -> list[Table]:
    """A table for everything (patients left out) by which the runs' counts group the test images, if into 2 to 6."""
    tables = []
    for name in group.subsets:
        known = group.images.dropna(subset=[name])
        values = sorted(known[name].unique())
        if len(values) not in SUBSETS:
            continue
        caption = (
            f"Dice in percent of the test images with each value of {name}, under strict: mean over these images, then "
            f"{OVER_DRAWS}"
        )
        header = ["method", "labels", *(f"{value} ({_how_many(known, name, value)})" for value in values)]
        undefined = int(known.dice.isna().sum())
        note = f"{undefined} scores of single images are undefined (nothing there, nothing predicted), left out."
        rows = by_value(group, known.groupby([*CELL, "run_id", name]).dice.mean(), values)
        tables.append(Table(f"Dice by {name}, strict", caption, header, rows, [note] if undefined else ()))
    return tables


def _how_many(known: pd.DataFrame, name: str, value: str) -> str:
    """Images and, where they are known of all of them, patients with a value; where draws have test images of their
    own, from the fewest to the most."""
    mine, runs = known[known[name] == value], known.run_id.unique()
    counted = {"image": mine.groupby("run_id").size()}
    if mine.unit.str.startswith("patient ").all():
        counted["patient"] = mine.groupby("run_id").unit.nunique()
    told = []
    for what, numbers in counted.items():
        least, most = numbers.reindex(runs, fill_value=0).agg(["min", "max"])
        span = f"{most}" if least == most else f"{least} to {most}"
        told.append(f"{span} {what}{'' if span == '1' else 's'}")
    return ", ".join(told)


def by_value(group: Group, scores: pd.Series, names: Sequence[str]) -> list[list[str]]:
    """A line a cell with finished runs: the mean ± sd over its draws for each of `names`, the last level of scores."""
    found = (100 * scores).groupby(level=[0, 1, 3]).agg(mean="mean", sd="std", n="count")
    rows = []
    for place, expected in group.cells[group.cells.finished > 0].expected.items():
        line = found.reindex([(*place, name) for name in names]).fillna({"n": 0}).astype({"n": int})
        rows.append([*group.line(place), *(cell({**each, "expected": expected}) for each in line.to_dict("records"))])
    return rows


def error_table(group: Group) -> Table:
    """Whether a method finds too much or too little, under `strict`."""
    scores = [group.cell_scores("strict", key) for key in ("precision", "recall")]
    places = group.cells.index[group.cells.finished > 0]
    rows = [[*group.line(place), *(cell(found.loc[place]) for found in scores)] for place in places]
    caption = (
        "Precision: the percentage of the predicted pixels that is right. Recall: the percentage of the true pixels "
        f"that is found. Mean over the test images at native size where it is defined, then {OVER_DRAWS}"
    )
    if any("classes" in run.counts for run in group.runs):
        caption += " An image's score is the mean over its classes but the background."
    return Table("Precision and recall, strict", caption, ["method", "labels", "precision", "recall"], rows)


def object_table(group: Group) -> Table | None:
    """GlaS-challenge object scores and surface distances, where they were measured."""
    measured = group.scores[group.scores.metric == "object_f1"].groupby(CELL).size()
    places = [place for place in group.cells.index if place in measured.index]
    if not places:
        return None
    scores = [group.cell_scores("strict", key, factor) for key, (_, factor) in OBJECTS.items()]
    rows = [[*group.line(place), *(cell(found.loc[place]) for found in scores)] for place in places]
    caption = (
        "Mean over test images at native size; mean ± sd over draws, n draws, or (k/n) where only k of n have it. "
        "Object scores as in the GlaS challenge (Sirinukunwattana et al. 2017), the objects of a prediction being its "
        "8-connected components. F1 and Dice in percent, distances in pixels."
    )
    left_out = int(group.scores.value[group.scores.metric.str.endswith("_excluded")].sum())
    notes = [f"{left_out} single values are undefined or infinite (an empty side) and left out."] if left_out else []
    header = ["method", "labels", *(title for title, _ in OBJECTS.values())]
    return Table("Objects and outlines, strict", caption, header, rows, notes)


def cost_tables(group: Group) -> list[Table]:
    """One table for each device, as their times are not comparable: medians over the finished runs of a cell."""
    tables = []
    for device, costs in group.costs.groupby("device") if group.done else ():
        medians = costs.reindex(columns=[*CELL, *COSTS]).infer_objects().groupby(CELL).median(numeric_only=False)
        sizes = costs.groupby(CELL).size()
        rows = [
            [*group.line(place), *(
                show(value) if pd.notna(value := medians.loc[place, key]) else DASH for key, (_, show) in COSTS.items()
            ), str(sizes[place])]
            for place in group.cells.index if place in sizes.index
        ]  # fmt: skip
        caption = f"Medians over the finished runs of a cell; {DASH} where the device cannot tell. "
        caption += "Seconds are longer where other jobs used the machine; operations are not."
        header = ["method", "labels", *(title for title, _ in COSTS.values()), "runs"]
        tables.append(Table(f"Cost on {device}", caption, header, rows))
    return tables


def failure_table(group: Group) -> Table | None:
    """Every run that ended without a score or was left out, and why; what is merely missing stands in the cells."""
    lost = [(run.place, str(run.record["status"]), run.record.get("reason") or "no reason given")
            for run in group.runs if not run.done]  # fmt: skip
    lost += [(e.place, e.missing, e.reason) for e in group.expected if e.missing in ("stale", "excluded")]
    rows = [
        [group.display(place["row"]), f"{place['ratio']} %", str(place["fold"]), str(place["seed"]), status, reason]
        for place, status, reason in lost
    ]
    if not rows:
        return None
    header = ["method", "labels", "fold", "seed", "status", "reason"]
    return Table("Runs without a score", "They are in no mean above.", header, rows)


def _made_on(group: Group) -> str:
    """Which processor made which draws, where the records know more of it than its name and no draw mixes several."""
    places: dict[tuple[int, int], set[str]] = defaultdict(set)
    for run in group.done:
        places[run.spec["ratio"], run.spec["fold"]].add(run.device)
    if not any(run.record["environment"].get("processor") for run in group.done) or max(map(len, places.values())) > 1:
        return ""
    by_device: dict[str, list[str]] = defaultdict(list)
    for (ratio, fold), (device,) in sorted(places.items()):
        by_device[device].append(f"{ratio} % draw {fold}")
    told = [f"{device} for {', '.join(draws)}" for device, draws in by_device.items()]
    return f" Made on {'; '.join(told) if len(told) > 1 else next(iter(by_device))}."


def _everything(group: Group) -> list[Sequence[str]]:
    """The score of no model at all; no row where no run stored what it takes."""
    known = pd.DataFrame(
        [(run.spec["ratio"], everything_is_foreground(run.counts)) for run in group.done], columns=["ratio", "value"]
    ).astype({"value": float})
    means = (100 * known.groupby("ratio").value.mean()).reindex(group.ratios)
    return [[EVERYTHING, *map(number, means)]] if means.notna().any() else []


def _not_there(group: Group) -> list[str]:
    """A note on the runs that are expected and not there yet."""
    states = Counter(entry.missing for entry in group.expected if entry.missing in ("missing", "running"))
    if not states:
        return []
    counted = " and ".join(f"{number} {state}" for state, number in sorted(states.items()))
    return [f"Of {len(group.expected)} runs {counted}."]


def _undefined(group: Group, protocol: str) -> list[str]:
    """Notes on scores that do not exist."""
    scores = [run.scores[protocol] for run in group.done]
    notes = [f"No score: {reason}." for reason in sorted({entry["reason"] for entry in scores if "reason" in entry})]
    undefined = sum(entry.get("undefined", 0) for entry in scores)
    if undefined:
        notes.append(f"{undefined} scores of single images are undefined (nothing there, nothing predicted), left out.")
    return notes
