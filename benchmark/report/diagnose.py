"""Why a run is not better than one without unlabelled images: what its counts say, and what to try.

Scores are of the validation images, whose masks are never trained on; test images play no part, so nothing is tuned on
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.metrics.counts import CONFIDENCES, dice
from benchmark.protocols import over_steps, per_image
from benchmark.registry import METHODS
from benchmark.report import stats
from benchmark.report.plain_run import learns_from_unlabelled, other_settings, why_not
from benchmark.report.results_frame import Run

LOSS = "supervised"  # the loss on labelled images, or, as in `supervised/first`, the beginning of several
SURE = 0.95  # how sure a pixel must be to be counted where a method has no threshold
POINT, NEAR = 1.0, 0.2  # points of Dice that count as a difference, and as none
STUCK = 0.9  # of its first value: a loss above it has not fallen
ROUNDED = 0.05  # percent: a threshold that is so much above the level counted is named
LITTLE, MANY, RIGHT = 0.05, 0.999, 0.8  # shares of pixels: hardly any, nearly all, right often enough
Curve = tuple[NDArray[Any], NDArray[np.float64]]  # steps and values


class Part(NamedTuple):
    """A question about a run: what is seen, what to try, and curves by name with what their values are."""

    question: str
    seen: list[str]
    advice: Sequence[str]
    label: str = ""
    curves: Mapping[str, Curve] = {}


def diagnose(run: Run, plain: Run | None) -> list[Part]:
    """The parts of a diagnosis, in the order in which one looks for a cause. `plain`: what the run is compared with.

    UserError where that is of another draw or no bound, or where the run uses no unlabelled images.
    """
    if not learns_from_unlabelled(run.record):
        raise UserError(f"{run.record['run_id']}: {run.spec['method']} uses no unlabelled images; diagnose a run of a "
                        "method that does")
    if plain and (why := why_not(plain.record, run)):
        raise UserError(f"{plain.record['run_id']} {why}; compare with a run of the same draw that uses labelled "
                        "images alone")
    apart = None if plain is None else _over_images(run, plain)
    harmed, helped = (False, False) if apart is None else (apart.high < 0, apart.low > 0)
    lower = _or(run, "weight", "lower") if plain is None or harmed else ""
    gain = _gain(run, plain, apart, lower)
    loss = _loss(run, plain, lower, longer=not helped and not _fades(run))
    return [gain, loss, _teacher(run), *_pseudo_labels(run, lower)]


def as_text(run: Run, parts: Sequence[Part]) -> str:
    """The diagnosis for a terminal, each curve as its values at six evaluations at most."""
    lines = [run.record["run_id"]]
    for part in parts:
        lines += ["", part.question, *(f"  {line}" for line in part.seen), *(f"  Try: {line}" for line in part.advice)]
        for number, (name, (steps, values)) in enumerate(part.curves.items()):
            some = np.unique(np.linspace(0, len(steps) - 1, 6).round().astype(int))
            lines += [f"  {part.label + ', step':<24}" + "".join(f"{steps[k]:>8}" for k in some)] * (number == 0)
            lines.append(f"  {name:<24}" + "".join(f"{values[k]:8.4g}" for k in some))
    return "\n".join(lines)


def _over_images(run: Run, plain: Run) -> stats.Interval | None:
    """By how much Dice the run is above the plain one, over single validation images: a record has no patients of
    these."""
    one, other = (
        pd.Series(per_image(each.counts, dice, "validation"), pd.Index(each.counts["validation_ids"], name="unit"))
        for each in (run, plain)
    )
    return stats.interval(one - other)


def _fades(run: Run) -> bool:
    """Whether an earlier evaluation was better than the last, by more than a point."""
    _, scores = _dice(run)
    return bool(np.nan_to_num(scores).max() - scores[-1] > POINT)


def _gain(run: Run, plain: Run | None, apart: stats.Interval | None, lower: str) -> Part:
    steps, scores = mine = _dice(run)
    shown, seen, advice = {str(run.counts["outputs"][0]): mine}, [f"Dice at the end: {scores[-1]:.1f} %."], []
    if plain is None:
        seen.append("There is no run of the same draw without unlabelled images to compare with.")
        advice.append("Make one with the same options and a method that uses labelled images alone.")
    else:
        shown[plain.spec["method"]] = _dice(plain)
        name = f"{plain.record['run_id']}, without unlabelled images,"
        if apart is None:
            seen.append(f"{name} has {_dice(plain)[1][-1]:.1f} %. One validation image says nothing of chance.")
        else:
            mean, low, high = (100 * value for value in apart[:3])
            seen.append(f"The difference to {name} is {mean:+.1f} points [{low:+.1f}, {high:+.1f}]: mean over "
                        f"{apart.units} validation images, each by itself, and its 95 % interval over images (a "
                        f"record does not name their patients). {'It may be chance. ' * (low <= 0 <= high)}This is one "
                        "draw; a report compares several.")  # fmt: skip
        if differ := other_settings(plain, run):
            seen.append(f"Careful: the two differ in {', '.join(differ)}.")
    best = int(np.argmax(np.nan_to_num(scores)))
    if _fades(run):
        seen.append(f"The best evaluation was at step {steps[best]}, {scores[best] - scores[-1]:.1f} points above the "
                    "end.")
        advice.append(f"Train shorter (train.steps){lower}: it may learn its own mistakes.")
    elif len(scores) > 2 and scores[-1] - scores[-1 - len(scores) // 3] > POINT:
        seen.append("The score still rises at the end.")
        advice.append("Train longer (train.steps).")
    return Part("Do the unlabelled images help?", seen, advice, "Dice (%)", shown)


def _loss(run: Run, plain: Run | None, lower: str, *, longer: bool) -> Part:
    """`longer`: whether a loss that stays higher than the plain run's is a reason to train longer."""
    question, (steps, mine) = "Does the supervised loss fall?", _supervised_loss(run)
    if len(mine) < 2:
        return Part(question, ["No supervised loss was logged at two evaluations or more."], [])
    shown, advice = {"this run": (steps, mine)}, []
    seen = [f"It goes from {mine[0]:.3f} (mean up to the first evaluation) to {mine[-1]:.3f} (since the last but one)."]
    if mine[-1] > STUCK * mine[0]:
        seen.append("It hardly falls: the network does not learn the labelled images.")
        advice.append("Try another learning rate (optimiser.lr) and more steps; look at the masks (`data preview`).")
    if plain is not None and len(other := _supervised_loss(plain)[1]) > 1:
        shown[plain.spec["method"]] = _supervised_loss(plain)
        seen.append(f"Without unlabelled images it goes from {other[0]:.3f} to {other[-1]:.3f}.")
        if mine[0] > 1.5 * other[0]:
            seen.append("The two start far apart, since a method may add the losses of several networks: compare the "
                        "shapes alone.")
        elif mine[-1] > 1.2 * other[-1]:
            seen.append("The network fits the labelled images less: the unlabelled terms are strong, or the method "
                        "disturbs its network, as dropout does, or starts anew.")
            advice += [f"Train longer{lower}."] * longer
    return Part(question, seen, advice, "supervised loss", shown)


def _teacher(run: Run) -> Part:
    question, mine = "Is the teacher better than the student?", _dice(run)
    official, *others = map(str, run.counts["outputs"])
    decay, shown, advice = _number(run, "decay"), {official: mine}, []
    seen = [] if others else [f"There is one output ({official}), and so nothing to compare."]
    for number, name in enumerate(others, 1):
        shown[name] = _dice(run, number)
        ahead = shown[name][1] - mine[1]
        seen.append(f"At the end {name} is {abs(ahead[-1]):.1f} points {'better' if ahead[-1] >= 0 else 'worse'} than "
                    f"{official}. It was worse at {np.count_nonzero(ahead < 0)} of {len(ahead)} evaluations.")
        if decay is not None and (ahead[-1] < -POINT or np.abs(ahead).mean() < NEAR):
            seen.append(f"Decay {decay:g} averages over about {1 / max(1 - decay, 1e-6):,.0f} steps; the run has "
                        f"{mine[0][-1]:,}.")
            advice.append("Lower method.decay, or train longer: the average still holds early weights."
                          if ahead[-1] < -POINT else "Raise method.decay: the two are so near that it teaches little.")
    return Part(question, seen, [*dict.fromkeys(advice)], "Dice (%)", shown if others else {})


def _pseudo_labels(run: Run, lower: str) -> list[Part]:
    """How many pixels are sure enough and how many of them right, of the output that sets the targets.

    Without a threshold all pixels are predictions, and which of them are learnt is not known.
    """
    thresholds, steps = _thresholds(run), run.counts["steps"]
    what = "predictions" if thresholds is None else "pseudo-labels"
    question = "How sure are the predictions?" if thresholds is None else "How many pixels get a pseudo-label?"
    if "validation_confidence" not in run.counts:
        older = "The record does not say: it was made before pixels were counted by their confidence."
        return [Part(question, [older], ["Make the run again with --overwrite."])]
    outputs = [str(name) for name in run.counts["outputs"]]
    name = METHODS.load(run.spec["method"]).labels_from or outputs[:2][-1]
    counts = run.counts["validation_confidence"][:, outputs.index(name)]  # [E, C, wrong or right, confidence]
    wanted = np.full(len(steps), SURE) if thresholds is None else thresholds
    bins = np.searchsorted(CONFIDENCES, wanted + 1e-9) - 1
    sure = np.stack([of[..., lowest:].sum(-1) for of, lowest in zip(counts, bins, strict=True)])
    every, levels = counts.sum(-1), 100 * CONFIDENCES[bins]
    share = sure.sum((1, 2)) / every.sum((1, 2))
    seen, advice = [f"At the end {name} is at least {levels[-1]:.0f} % sure of {_percent(share[-1])} of the pixels; at "
                    f"the first evaluation, at least {levels[0]:.0f} % of {_percent(share[0])}."], []
    if 100 * wanted[-1] - levels[-1] > ROUNDED:
        seen.append(f"The threshold is {wanted[-1]:.3g}; pixels are counted by whole percents.")
    if thresholds is None:
        seen.append("No setting is named threshold: all pixels are counted below, and the method may use fewer.")
    elif share[-1] < LITTLE:
        seen.append("There is little to learn from.")
        advice.append(f"Train longer{_or(run, 'threshold', 'lower') if _often_right(sure) else ''}.")
    elif share[-1] > MANY:
        seen.append("Nearly every pixel is as sure as that.")
    parts = [Part(question, seen, advice, "share of pixels (%)", {name: (steps, 100 * share)})]
    return [*parts, _precision(run, what, every if thresholds is None else sure, every, lower)]


def _often_right(labelled: NDArray[np.int64]) -> bool:
    """Whether more pixels may get a pseudo-label: those that have one at the end are right often enough."""
    return bool(labelled[-1, :, 1].sum() >= RIGHT * labelled[-1].sum())


def _precision(
    run: Run, what: str, labelled: NDArray[np.int64], every: NDArray[np.int64], lower_weight: str
) -> Part:
    """How many of the pixels with a pseudo-label are right, [E, C, wrong or right], and of all pixels."""
    question, steps = f"Are the {what} right?", run.counts["steps"]
    if not labelled[-1].any():
        return Part(question, ["At the end there are none."], [])
    with np.errstate(invalid="ignore"):  # a class that has none is nan
        of_class = labelled[..., 1] / labelled.sum(2)
        right, unselected = (found[..., 1].sum(1) / found.sum((1, 2)) for found in (labelled, every))
    curves, advice = {what: right}, []
    seen = [f"At the end {_percent(right[-1])} of them are right."]
    if labelled is not every:
        curves["all pixels"] = unselected
        seen.append(f"Of all pixels, sure or not, {_percent(unselected[-1])} are.")
    if not _often_right(labelled):
        seen.append("Many are wrong.")
        advice.append(f"Use more labelled images{_or(run, 'threshold', 'raise')}{lower_weight}.")
    names = ["background", *map(str, run.counts.get("classes", ["foreground"]))]
    share, truth = labelled[-1].sum(1) / labelled[-1].sum(), _truth(run, every)
    for k, kind in enumerate(names):
        if of_class[-1, k] < min(RIGHT, right[-1]):
            seen.append(f"Those of {kind} are right in {_percent(of_class[-1, k])} only.")
        if share[k] < truth[k] / 2:
            seen.append(f"{kind[:1].upper() + kind[1:]} is {_percent(truth[k])} of the masks but {_percent(share[k])} "
                        f"of the {what}.")
            lower = _or(run, "threshold", "lower") if _often_right(labelled) else ""
            advice.append(f"Train longer{lower}, so that every class is taught.")
    curves |= dict(zip(names[:6], of_class.T, strict=False))
    shown = {name: (steps, 100 * values) for name, values in curves.items()}
    return Part(question, seen, [*dict.fromkeys(advice)], "precision (%)", shown)


def _truth(run: Run, every: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each class in the validation masks, the background first. [C]."""
    pooled = run.counts.get("validation_pooled_classes")
    found = run.counts["validation_pooled"][-1, 0, :1] if pooled is None else pooled[-1, 0]
    classes = (found[:, 0] + found[:, 2]) / every[-1].sum()
    return np.concatenate([[1 - classes.sum()], classes])


def _thresholds(run: Run) -> NDArray[np.float64] | None:
    """The threshold on the confidence at every evaluation, as it was logged where it moves; None without one."""
    found = [(entry["step"], entry.get("threshold")) for entry in run.record["history"]]
    logged = [(step, threshold) for step, threshold in found if threshold is not None]
    fixed, steps = _number(run, "threshold"), run.counts["steps"]
    if logged:
        return np.interp(steps, *np.array(logged, float).T)
    return None if fixed is None else np.full(len(steps), fixed)


def _dice(run: Run, output: int = 0) -> Curve:
    values = over_steps(run.counts, "validation", output)
    assert values is not None  # see `read_run`
    return run.counts["steps"], 100 * values


def _supervised_loss(run: Run) -> Curve:
    """Where it was logged; of several networks with a term each, their mean."""
    steps, values = [], []
    for entry in run.record["history"]:
        if terms := [v for name, v in entry.items() if name.partition("/")[0] == LOSS and v is not None]:
            steps.append(entry["step"])
            values.append(np.mean(terms))
    return np.array(steps), np.array(values)


def _or(run: Run, setting: str, how: str) -> str:
    """`, or lower method.weight (now 5)`, where the method has such a setting, or one that begins so: weight_max."""
    for key in sorted(run.spec["values"]):
        name = key.removeprefix("method.")
        if name != key and (name == setting or name.startswith(f"{setting}_")):
            value = _number(run, name)
            return "" if value is None else f", or {how} method.{name} (now {value:g})"
    return ""


def _number(run: Run, setting: str) -> float | None:
    """The value of a method's setting; None where it has none, or one that is no number."""
    value = run.spec["values"].get(f"method.{setting}")
    return float(value) if isinstance(value, int | float) else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
