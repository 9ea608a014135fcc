"""SPIDER-colorectal: patches with a class each, as a pool of unlabelled images."""

from __future__ import annotations

from benchmark.data.dataset import Dataset, ImagePool


class SPIDERColorectal(ImagePool, Dataset):
    """HistAI 2025: H&E patches of the colorectum, 224 x 224 pixels at 20x; only for `--unlabelled`.

    Each patch has one class and no mask, so no segmentation can be scored on it. Ask for histai/SPIDER-colorectal on
    Hugging Face (a form; CC BY-NC 4.0), and put the images of its archives into spider_colorectal/. Paper: arXiv
    2503.02876.
    """

    domain = "H&E, colorectum, 20x"
    licence = "CC BY-NC 4.0"
    why_unlabelled = "SPIDER has a class for each patch, and no masks"
    prefixes = ("spider_colorectal",)
    how_to_get = """SPIDER-colorectal is histai/SPIDER-colorectal on Hugging Face (behind a form; CC BY-NC 4.0): the
        images of its archives, in folders of any names."""
