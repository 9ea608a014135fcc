"""Two rows, image by image."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.compare import paired
from benchmark.report.figures.rows import rows_at
from benchmark.report.figures.style import COLOURS, GREY, INK, SMALL, Sheet, limits, short

MARKERS = ("o", "s", "^", "D", "v", "P")


def scatter(group: Group, ratio: int) -> Figure | None:
    """Strict Dice of the best row against the reference's in the draws that both have; None where none has any."""
    if group.reference is None:
        return None
    reference = group.reference
    others = [row.label for row in rows_at(group, ratio) if row.label != reference]
    pairs = {label: found for label in others if (found := paired(group, reference, label, ratio))}
    if not pairs:
        return None
    best, common = next(iter(pairs.items()))
    one, two = (stats.average(pair[side] for pair in common.values()) for side in (0, 1))
    x, y = 100 * one.values, 100 * two.values  # both average the same images over the same draws
    kinds = _kinds(group, list(one.ids))
    above, below = int((y > x).sum()), int((y < x).sum())
    note = "Every mark is a test image, averaged over the draws that both have."
    if len(pairs) > 1:
        note += f" {short(best)} has the highest mean of {len(pairs)} rows on these very images, so "
        note += "it looks better here than it is."
    sheet = Sheet(
        f"Image by image, {ratio} % of the labels",
        f"{group.title} · strict protocol · {stats.in_words([len(common)])}",
        note, [3.9], [3.9], left=0.65, right=0.25,
    )  # fmt: skip
    axes = sheet.axes[0, 0]
    ends = limits([*x, *y], 0.04)
    axes.plot(ends, ends, color=GREY, lw=0.8)
    for number, kind in enumerate(sorted(set(kinds))):
        mine = np.array([other == kind for other in kinds])
        axes.plot(x[mine], y[mine], MARKERS[number], ms=4.6, color=COLOURS[number], alpha=0.75, mec="white", mew=0.4,
                  label=f"{kind} (n={mine.sum()})")  # fmt: skip
    axes.set(xlim=ends, ylim=ends, xlabel=f"Dice (%), {short(reference)}", ylabel=f"Dice (%), {short(best)}")
    axes.text(0.02, 0.98, f"better in {above}", transform=axes.transAxes, va="top", fontsize=SMALL, color=INK)
    axes.text(0.98, 0.02, f"worse in {below}", transform=axes.transAxes, ha="right", fontsize=SMALL, color=INK)
    if len(set(kinds)) > 1:
        axes.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(0, 0.95), frameon=False, handletextpad=0.1,
                    borderaxespad=0.1)  # fmt: skip
    return sheet.figure


def _kinds(group: Group, names: list[str]) -> list[str]:
    """For every image the value of the first of the data set's groups with two to six values but the patients."""
    for run in group.runs:
        for key in sorted(run.counts):
            if key.startswith("test_groups_") and key != "test_groups_patient":
                of = dict(zip(map(str, run.counts["test_ids"]), map(str, run.counts[key]), strict=True))
                found = [of.get(name, "") for name in names]
                if 2 <= len(set(found)) <= len(MARKERS):
                    return found
    return [""] * len(names)
