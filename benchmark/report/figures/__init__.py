"""Figures of a group of runs, drawn without a display. `draw_all` draws whatever its records allow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmark.report.figures.gap_and_cost import cost, gap
from benchmark.report.figures.panel import panel
from benchmark.report.figures.scores import forest, ratio_curves, rows_at, scatter
from benchmark.report.figures.style import FORMATS, save, styled
from benchmark.report.figures.training import learning, losses, unlabelled, watched
from benchmark.report.image_selection import images_shareable, local_folder, select_images
from benchmark.report.results_frame import Group

logger = logging.getLogger(__name__)

KINDS: dict[str, Callable[[Group, int], Figure | None]] = {  # drawn at the ratio that most rows have
    "cost": cost, "learning": learning, "losses": losses, "watched": watched, "unlabelled": unlabelled,
    "scatter": scatter, "gap": gap,
}  # fmt: skip


def draw_all(
    group: Group, results: Path, folder: Path, formats: Sequence[str] = FORMATS, provenance: str = ""
) -> list[Path]:
    """Write `folder/<group.name>-<kind>.<format>` for every kind of figure that the records allow.

    A ratio with two rows or more has a forest: `forest`, or `forest-10` and so on where there are several. Pictures of
    data that may not be shared go into `folder/local`, which git ignores; `results` is where the runs' masks are.
    provenance: kept in every file, as a PNG's `Description` and a PDF's `Subject`. The same records and provenance give
    the same bytes with the same versions of matplotlib and fonts.
    """
    paths: list[Path] = []
    with styled():
        for kind, figure in _figures(group).items():
            if figure is not None:
                paths += save(figure, folder / f"{group.name}-{kind}", formats, provenance)
        selection, reason = select_images(group, results)
        if selection is None:
            logger.info(f"{group.name}: no panel of images, {reason}")
        else:
            place = folder if images_shareable(group.source) else local_folder(folder)
            paths += save(panel(selection), place / f"{group.name}-panel", formats, provenance)
    return paths


def _figures(group: Group) -> dict[str, Figure | None]:
    finished = group.cells[group.cells.finished > 0].groupby("ratio").size()
    if finished.empty:
        return {}
    several = [ratio for ratio in group.ratios if len(rows_at(group, ratio)) > 1]
    found = {"forest" if len(several) == 1 else f"forest-{ratio}": forest(group, ratio) for ratio in several}
    found["ratio"] = ratio_curves(group)
    return found | {kind: draw(group, int(finished.idxmax())) for kind, draw in KINDS.items()}
