"""Two rows, image by image."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from benchmark.report.cells import Group
from benchmark.report.figures.rows import draws, rows_at
from benchmark.report.figures.style import COLOURS, GREY, INK, SMALL, Sheet, limits, short

MARKERS = ("o", "s", "^", "D", "v", "P")


def scatter(group: Group, ratio: int) -> Figure | None:
    """Strict Dice of the best row against the reference's; None without a reference, or another row."""
    rows = rows_at(group, ratio)
    others = [row for row in rows if row.label != group.reference]
    if len(others) == len(rows) or not others:
        return None
    reference, best = str(group.reference), others[0].label
    one, two = group.images(reference, ratio), group.images(best, ratio)
    places = {name: place for place, name in enumerate(two.ids)}
    common = [(name, place) for place, name in enumerate(one.ids) if name in places]
    if not common:
        return None
    x = 100 * np.array([one.values[place] for _, place in common])
    y = 100 * np.array([two.values[places[name]] for name, _ in common])
    kinds = _kinds(group, [name for name, _ in common])
    above, below = int((y > x).sum()), int((y < x).sum())
    sheet = Sheet(
        f"Image by image, {ratio} % of the labels",
        f"{group.title} · strict protocol · {draws([row for row in rows if row.label in (reference, best)])}",
        f"Every mark is a test image, averaged over draws. "
        f"{short(best)} has the highest mean of {len(others)} rows on these very images, so "
        "it looks better here than it is.", [3.9], [3.9], left=0.65, right=0.25,
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
