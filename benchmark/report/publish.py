"""Where pages go: what may be published lies in the repository, pictures of others' data stay local."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from benchmark.files import write_atomically
from benchmark.report.cells import Group
from benchmark.report.page import render
from benchmark.report.pictures import Picture, gallery, may_be_published
from benchmark.report.table import Table


class Pages(NamedTuple):
    """Files that were written, and remarks on what is not in them."""

    paths: list[Path]
    remarks: list[str]


def publish(groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], results: Path, provenance: str) -> Pages:
    """Write `results/pages/<name>.html` and, for data whose pictures may not be published, `pages/local/<name>.html`,
    which keeps itself out of version control and alone has the pictures.
    """
    public = page_of(groups, results)
    pages, local = Pages([], []), public.parent / "local"
    shown: dict[str, list[Picture]] = {}
    private: dict[str, list[Picture]] = {}
    for group in groups:
        found, reason = gallery(group, results)
        if not found:
            pages.remarks.append(f"{group.name}: no pictures on the page, {reason}")
        (shown if may_be_published(group.source) else private)[group.name] = found
    write_atomically(public, _writer(render(groups, tables, shown, provenance)))
    pages.paths.append(public)
    if any(private.values()):
        write_atomically(local / ".gitignore", _writer("*\n"))
        write_atomically(local / public.name, _writer(render(groups, tables, shown | private, provenance)))
        pages.paths.append(local / public.name)
    return pages


def page_of(groups: Sequence[Group], results: Path) -> Path:
    """Where the page of these groups is: called like the only one, or like what their names have in common."""
    names = sorted({group.name if len(groups) == 1 else group.name.split("-")[0] for group in groups})
    return results / "pages" / f"{'-'.join(names)}.html"


def _writer(text: str) -> Callable[[IO[bytes]], object]:
    return lambda stream: stream.write(text.encode())
