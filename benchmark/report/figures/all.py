"""Every figure that a group's records allow, under names that say what they show."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmark.files import write_text
from benchmark.report.cells import Group
from benchmark.report.figures.cost import cost
from benchmark.report.figures.forest import forest
from benchmark.report.figures.gap import gap
from benchmark.report.figures.panel import draw_layout
from benchmark.report.figures.ratio import ratio_curves
from benchmark.report.figures.rows import busiest, rows_at
from benchmark.report.figures.scatter import scatter
from benchmark.report.figures.style import FORMATS, save, styled
from benchmark.report.figures.training import learning, losses, watched
from benchmark.report.figures.unlabelled import unlabelled
from benchmark.report.pictures import lay_out, may_be_published

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
    data that may not be published go into `folder/local`, which git ignores; `results` is where the runs' masks are.
    provenance: kept in every file, as a PNG's `Description` and a PDF's `Subject`. The same records and provenance give
    the same bytes with the same versions of matplotlib and fonts.
    """
    paths: list[Path] = []
    with styled():
        for kind, figure in _figures(group):
            paths.extend(save(figure, folder / f"{group.name}-{kind}", formats, provenance))
        layout, reason = lay_out(group, results)
        if layout is None:
            logger.info(f"{group.name}: no panel of images, {reason}")
        else:
            place = folder if may_be_published(group.source) else _local(folder)
            paths.extend(save(draw_layout(layout), place / f"{group.name}-panel", formats, provenance))
    return paths


def _figures(group: Group) -> list[tuple[str, Figure]]:
    ratio = busiest(group)
    if ratio is None:
        return []
    several = [share for share in group.ratios if len(rows_at(group, share)) > 1]
    found = [("forest" if len(several) == 1 else f"forest-{share}", forest(group, share)) for share in several]
    found.append(("ratio", ratio_curves(group)))
    found += [(kind, draw(group, ratio)) for kind, draw in KINDS.items()]
    return [(kind, figure) for kind, figure in found if figure is not None]


def _local(folder: Path) -> Path:
    """A folder that keeps itself out of version control."""
    write_text(folder / "local" / ".gitignore", "*\n")
    return folder / "local"
