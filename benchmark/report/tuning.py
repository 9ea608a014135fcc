"""What an equal tuning budget changes, what tuning on the test images would have claimed, and what it cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from benchmark.report import stats
from benchmark.report.compare import paired, resampled_units, signs
from benchmark.report.render import DASH, Table, cell, number, signed
from benchmark.report.results_frame import Group, Tuning

if TYPE_CHECKING:
    from benchmark.runs.tuning import Tuned  # needs torch


def tuning_tables(group: Group) -> list[Table]:
    """Default and tuned side by side, and the trials; none where no trial has ended but the default's."""
    tuning = group.tuning
    if tuning is None or not any(run.record for each in tuning.found for runs in each.trials[1:] for run in runs):
        return []
    budgets = sorted({each.finished for each in tuning.found})
    rows: dict[tuple[int, ...], list[str]] = {}
    for each in tuning.found:
        rows.setdefault(each.draws, []).append(f"{group.display(each.place.row)} at {each.place.ratio} %")
    on = "; ".join(f"draw {', '.join(map(str, draws))}" + f" ({', '.join(names)})" * (len(rows) > 1)
                   for draws, names in rows.items())  # fmt: skip
    notes = [f"Settings are chosen on {on}. If tune was given other --draws, give report the same: on other draws "
             "another setting may be the best."]  # fmt: skip
    if len(budgets) > 1:
        notes.append(f"The budgets are not equal: {budgets[0]} to {budgets[-1]} trials have ended. A row is tuned once "
                     "all its trials have.")  # fmt: skip
    return [_gains(group, tuning, notes), _trials(group, tuning, notes)]


def _gains(group: Group, tuning: Tuning, notes: list[str]) -> Table:
    tuned = tuning.group.cell_scores() if tuning.group else None
    default, rows = (group.in_draws_of(tuning.group) if tuning.group else group).cell_scores(), []
    for each, test in zip(tuning.found, tuning.test, strict=True):
        place = (each.place.row, each.place.ratio)
        line = [*group.line(place), cell(default.loc[place]) if default.n[place] else DASH]
        if each.chosen is None or tuning.group is None or tuned is None or not tuned.n.get(place):
            rows.append([*line, *[DASH] * 6])
            continue
        difference = paired(tuning.group.by_image(*place), group.by_image(*place))
        values = difference.mean(axis=1)
        bounds = stats.interval(values)
        interval = f"[{signed(100 * bounds.low)}, {signed(100 * bounds.high)}]" if bounds else DASH
        claims = [_claim(test, each.chosen), _claim(test, None if np.isnan(test).all() else int(np.nanargmax(test)))]
        rows.append([*line, cell(tuned.loc[place]), signed(100 * values.mean()), interval, signs(difference), *claims])
    found = tuning.found[0]
    trials, draws = len(found.trials), sorted({draw for each in tuning.found for draw in each.draws})
    on = ", ".join(map(str, draws))
    caption = (
        f"Strict Dice in percent of the default setting and of the best of {trials} trials, the default included: best "
        f"in mean Dice of the validation images at the last step, on draw {on}. Their masks are labels that no method "
        "trains on and that the default does not need. default: on the draws that the tuned setting has, where it has "
        "any. difference: tuned minus default in points, paired by draw and "
        f"image. [95 % interval]: {resampled_units(group)}. draws: in how many of them tuned is above default. The "
        f"last two columns are of the trials alone, on draw {on}: the gain in test Dice over the default of the trial "
        "that is chosen on validation images, and of the trial that is best on test images, which is what tuning on "
        "the test images would have claimed."
    )
    header = ["method", "labels", "default", "tuned", "difference", "95 % interval", "draws", "chosen on validation",
              "chosen on test"]  # fmt: skip
    return Table("Default and tuned, strict Dice", caption, header, rows, notes)


def _claim(test: tuple[float, ...], trial: int | None) -> str:
    """The gain of a trial over the default."""
    return DASH if trial is None or math.isnan(test[0]) else f"{signed(100 * (test[trial] - test[0]))} (trial {trial})"


def _trials(group: Group, tuning: Tuning, notes: list[str]) -> Table:
    rows = []
    for each in tuning.found:
        chosen = ["none", DASH, DASH] if each.chosen is None else [
            str(each.chosen), each.choice, number(100 * each.validation[each.chosen])
        ]  # fmt: skip
        seconds = _seconds(each)
        rows.append([*group.line((each.place.row, each.place.ratio)), f"{each.finished}/{len(each.trials)}", *chosen,
                     number(100 * each.validation[0]), f"{np.mean(seconds) / 60:.1f}" if seconds else DASH,
                     f"{sum(seconds) / 60:.1f}"])  # fmt: skip
    bare = [each for each in tuning.found if each.bare]
    names = ", ".join(group.display(each.place.row) for each in bare)
    alone = [f"By {', '.join(bare[0].settings[1])} alone, without ranges of their own: {names}."] if bare else []
    caption = (
        "How many trials have ended, which one is chosen and what it sets, its Dice in percent of the validation "
        "images and that of the default; and what the trials took, in minutes a run and in all."
    )
    header = ["method", "labels", "trials", "chosen", "settings", "validation Dice", "default", "minutes a run",
              "minutes"]  # fmt: skip
    return Table("Trials", caption, header, rows, [*notes, *alone])


def _seconds(found: Tuned) -> list[float]:
    """What each finished run of the trials took."""
    costs = [run.record.get("cost") or {} for runs in found.trials for run in runs if run.record]
    return [float(cost["wall_seconds"]) for cost in costs if cost.get("wall_seconds")]
