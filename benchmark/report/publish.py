"""Where pages go: what may be published lies in the repository, pictures of others' data stay local."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.files import write_text
from benchmark.report.cells import Group
from benchmark.report.page import render
from benchmark.report.pictures import Picture, gallery, may_be_published
from benchmark.report.table import Table

logger = logging.getLogger(__name__)


def publish(
    groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], results: Path, provenance: str
) -> list[Path]:
    """Write `results/pages/<name>.html` and, for data whose pictures may not be published, `pages/local/<name>.html`,
    which keeps itself out of version control and alone has the pictures.
    """
    public = page_of(groups, results)
    paths, local = [public], public.parent / "local"
    shown: dict[str, list[Picture]] = {}
    private: dict[str, list[Picture]] = {}
    for group in groups:
        found, reason = gallery(group, results)
        if not found:
            logger.info(f"{group.name}: no pictures on the page, {reason}")
        (shown if may_be_published(group.source) else private)[group.name] = found
    write_text(public, render(groups, tables, shown, provenance))
    if any(private.values()):
        write_text(local / ".gitignore", "*\n")
        write_text(local / public.name, render(groups, tables, shown | private, provenance))
        paths.append(local / public.name)
    return paths


def page_of(groups: Sequence[Group], results: Path) -> Path:
    """Where the page of these groups is: called like the only one, or like what their names have in common."""
    names = sorted({group.name if len(groups) == 1 else group.name.split("-")[0] for group in groups})
    return results / "pages" / f"{'-'.join(names)}.html"
