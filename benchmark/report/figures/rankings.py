"""How often each row has each rank, as a heat map: one strip for every label ratio."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from seaborn import heatmap

from benchmark.report.figures.scores import LETTER, LINE
from benchmark.report.figures.style import BLUE, GREY, INK, SMALL, VERMILION, sheet, short
from benchmark.report.ranks import Ranking, rankings
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

WIDE = 0.33  # inches a rank
ROWS = 60  # of all ratios together; more are no picture


def ranks(group: Group, ratio: int) -> Figure | None:
    """The distributions of all ratios, or of `ratio` where all are too many; None where nothing can be resampled."""
    found = [ranking for ranking in rankings(group) if ranking.resampled is not None]
    if sum(len(ranking.rows) for ranking in found) > ROWS:
        found = [ranking for ranking in found if ranking.ratio == ratio]
    if not found:
        return None
    note = (
        "Percent of the resamples (of patients, else images, and of draws) in which a row has a rank; empty: in none. "
        "Outlined: the rank of its mean. Right: rows that share a letter cannot be told apart."
    )
    about = f"{group.title} · strict Dice · {draws_in_words(len(ranking.draws) for ranking in found)} a row, 1 is best"
    names = [[short(group.display(row)) for row in ranking.rows] for ranking in found]
    figure, strips = sheet(
        ("How sure the ranks are", about, note), [max(WIDE * max(len(ranking.rows) for ranking in found), 4.4)],
        [LINE * len(ranking.rows) for ranking in found], left=0.25 + LETTER * max(len(n) for ns in names for n in ns),
        right=0.3 + LETTER * max(len(letters) for ranking in found for letters in ranking.letters), titles=1,
        gap=(0, 0.55),
    )  # fmt: skip
    for axes, ranking, rows in zip(strips, found, names, strict=True):
        _strip(axes, ranking, rows, group.labels(ranking.ratio))
        for label, row in zip(axes.get_yticklabels(), ranking.rows, strict=True):
            label.set_color(VERMILION if row == group.reference else INK)
    strips[-1].set_xlabel("rank")
    return figure


def _strip(axes: Axes, ranking: Ranking, names: list[str], title: str) -> None:
    texts = np.array([[f"{100 * share:.0f}" if share else "" for share in row] for row in ranking.shares])
    colours = LinearSegmentedColormap.from_list("", ["white", BLUE])
    heatmap(np.sqrt(ranking.shares), annot=texts, fmt="", cmap=colours, vmin=0, vmax=1, cbar=False, linewidths=1.5,
            annot_kws={"size": SMALL - 0.5}, ax=axes,
            xticklabels=range(1, len(names) + 1), yticklabels=names)  # fmt: skip
    axes.set_title(title, loc="left", pad=4)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    for place, (rank, letters) in enumerate(zip(ranking.ranks, ranking.letters, strict=True)):
        axes.plot([rank - 1, rank, rank, rank - 1, rank - 1], [place, place, place + 1, place + 1, place], color=INK,
                  lw=0.9, clip_on=False, gid="rank")  # fmt: skip
        axes.text(1.015, place + 0.5, letters, fontsize=SMALL, color=GREY, va="center", gid="group",
                  transform=axes.get_yaxis_transform())  # fmt: skip
