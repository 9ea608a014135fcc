"""Figures of a group of runs, drawn without a display. `draw_all` draws whatever its records allow."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmark.report.figures.image_panel import panel
from benchmark.report.figures.rankings import ranks
from benchmark.report.figures.scores import cost, forest, gap, ratio_curves, rows_at, scatter
from benchmark.report.figures.style import FORMATS, save, styled
from benchmark.report.figures.training import learning, losses, unlabelled, watched
from benchmark.report.image_selection import images_shareable, local_folder, select_images
from benchmark.report.results_frame import Group

logger = logging.getLogger(__name__)
OF_ONE_RATIO = (cost, learning, losses, watched, unlabelled, scatter, gap, ranks)


def draw_all(
    group: Group, results: Path, folder: Path, formats: Sequence[str] = FORMATS, provenance: str = ""
) -> list[Path]:
    """Write `folder/<group.name>-<kind>.<format>` for every kind of figure that the records allow.

    A ratio with two rows or more has a forest: `forest`, or `forest-10` and so on where there are several. Most others
    are drawn at the ratio that most rows have. Pictures of data that may not be shared go into `folder/local`, which
    git ignores; `results` is where the runs' masks are. provenance: kept in every file, as a PNG's `Description` and a
    PDF's `Subject`. The same records and provenance give the same bytes with the same versions of matplotlib and fonts.
    Figures of an earlier report are removed where these records no longer give them.
    """
    finished = group.cells[group.cells.finished > 0].groupby("ratio").size()
    figures: dict[str, Figure | None] = {}
    with styled():
        if len(finished):
            several = [ratio for ratio in group.ratios if len(rows_at(group, ratio)) > 1]
            figures = {"forest" if len(several) == 1 else f"forest-{ratio}": forest(group, ratio) for ratio in several}
            figures["ratio"] = ratio_curves(group)
            figures |= {draw.__name__: draw(group, int(finished.idxmax())) for draw in OF_ONE_RATIO}
        places = {folder / f"{group.name}-{kind}": figure for kind, figure in figures.items() if figure}
        kinds = "|".join([r"forest(-\d+)?", "ratio", *(draw.__name__ for draw in OF_ONE_RATIO)])
        of_group = re.compile(rf"{re.escape(group.name)}-({kinds})\.({'|'.join(formats)})")
        for path in folder.glob("*"):
            if of_group.fullmatch(path.name) and path.with_suffix("") not in places:
                path.unlink()
        if not figures:
            return []
        selection, reason = select_images(group, results)
        if selection:
            place = folder if images_shareable(group.source) else local_folder(folder)
            places[place / f"{group.name}-panel"] = panel(selection)
        else:
            logger.info(f"{group.name}: no panel of images, {reason}")
        return [path for stem, figure in places.items() for path in save(figure, stem, formats, provenance)]
