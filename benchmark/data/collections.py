"""Public collections of images that nobody has masks for: they can only be unlabelled images (`--unlabelled`)."""

from __future__ import annotations

from typing import NamedTuple


class Collection(NamedTuple):
    """What `list datasets` says of it; what its images show; their licence; why it has no masks; where to get it."""

    about: str
    domain: str
    licence: str
    why_unlabelled: str
    how_to_get: str


def _tcga(project: str, organ: str) -> Collection:
    return Collection(
        f"The Cancer Genome Atlas: H&E slides of adenocarcinoma of the {organ}; only for `--unlabelled`.",
        f"H&E, adenocarcinoma of the {organ}, whole slides", "open access at the Genomic Data Commons; its terms hold",
        f"no gland masks of {project} exist",
        f"{project} are whole slides (.svs, open access) at portal.gdc.cancer.gov: tiles (.png, .tif or .jpg) that are "
        "cut from them at the magnification of your labelled images.",
    )


COLLECTIONS = {
    "spider_colorectal": Collection(  # arXiv 2503.02876
        "HistAI 2025: H&E patches of the colorectum, 224 x 224 pixels at 20x; only for `--unlabelled`.",
        "H&E, colorectum, 20x", "CC BY-NC 4.0", "SPIDER has a class for each patch, and no masks",
        "SPIDER-colorectal is histai/SPIDER-colorectal on Hugging Face (behind a form; CC BY-NC 4.0): the images "
        "of its archives, in folders of any names.",
    ),
    "tcga_coad": _tcga("TCGA-COAD", "colon"),
    "tcga_read": _tcga("TCGA-READ", "rectum"),
}  # fmt: skip
