"""EBHI-Seg as released: the class whose masks outline tumour."""

from __future__ import annotations

from benchmark.data.dataset import Dataset
from benchmark.data.datasets.ebhi_gland import EBHIGland


class EBHICancer(EBHIGland, Dataset):
    """Shi et al. 2023: tumour in H&E tiles of colorectal biopsies, 795 of EBHI-Seg: its class Adenocarcinoma.

    The files, names, threshold and folds are those of `ebhi_gland`. Some masks are tumour all over. The subset is our
    reading of MPAMatch's EBHI-SEG-CANCER, which nobody has defined. Paper: Frontiers in Medicine 10, 1114673.
    Groups: set (train), patient (seven digits of the name), slide, grade (Adenocarcinoma).
    """

    classes = ("background", "tumour")
    grades = ("Adenocarcinoma",)
