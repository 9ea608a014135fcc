"""TCGA-READ: tiles of whole slides, as a pool of unlabelled images."""

from __future__ import annotations

from benchmark.data.dataset import Dataset, ImagePool


class TCGAREAD(ImagePool, Dataset):
    """The Cancer Genome Atlas: H&E slides of adenocarcinoma of the rectum; only for `--unlabelled`.

    No gland masks of these slides exist, so nothing can be learned from them with labels or scored on them. Download
    open-access slides (.svs) of the project TCGA-READ from portal.gdc.cancer.gov, cut them into tiles at the
    magnification of your labelled images, and put the tiles into tcga_read/.
    """

    domain = "H&E, adenocarcinoma of the rectum, whole slides"
    licence = "open access at the Genomic Data Commons; its terms hold"
    why_unlabelled = "no gland masks of TCGA-READ exist"
    prefixes = ("tcga_read",)
    how_to_get = """TCGA-READ are whole slides (.svs, open access) at portal.gdc.cancer.gov: tiles (.png, .tif or
        .jpg) that are cut from them at the magnification of your labelled images."""
