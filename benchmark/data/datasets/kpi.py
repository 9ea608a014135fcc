"""KPIs 2024, patches: a folder a set, kind of mouse and slide, with JPEG images and JPEG masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.data.dataset import Dataset, Item, keyed, paired
from benchmark.errors import UserError

SETS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}  # folder -> our set
PLACES = ("", "*_data_task1_patch_level/")  # the sets lie in one folder, or, unpacked one by one, each in its own


class KPI(Dataset):
    """KPIs 2024, task 1: glomeruli in PAS patches of mouse kidneys; untested on the real files.

    The release has train, validation (or val) and test, in each <kind>/<slide>/img and mask of 2048 x 2048 pixels, all
    JPEG; masks are cut at 128. This adapter was written from that description and tried on a made-up tree alone: the
    real files were not at hand. Paper: arXiv 2502.07288.
    Groups: set (train, validation, test), slide, grade (the kind of mouse: 56Nx, DN, NEP25, normal).
    """

    domain = "PAS, mouse kidney"
    classes = ("background", "glomerulus")
    instances = False
    threshold = 128
    list_key = "kpi"  # patches of a slide overlap, so lists are of whole slides
    licence = "not stated in what could be read of the release; ask its organisers"

    prefixes = ("kpi", "task1", "data")
    how_to_get = """KPIs 2024 is Synapse syn54077668 (free account; see sites.google.com/view/kpis2024): its folder
        Task1_patch_level (train, validation and test), or training_data_task1_patch_level (train in it) and so on side
        by side, all unpacked."""

    def holds(self, folder: Path) -> bool:
        return bool(_images(folder, "train"))

    def items(self, folder: Path) -> Iterator[Item]:
        for place, name in SETS.items():
            for img in _images(folder, place):
                slide, kind, mask = img.parent.name, img.parent.parent.name, img.parent / "mask"
                if not (mask.is_dir() or self.images_only):
                    raise UserError(f"{mask}: no such folder; it has the masks of {img}")
                images = keyed(img, "(.+?)(?:_img)?", str, "patch")
                masks = keyed(mask, "(.+?)(?:_mask|_img)?", str, "patch")
                for patch, image, truth in paired(images, masks, images_only=self.images_only):
                    yield Item(patch, image, truth, {"set": name, "slide": slide, "grade": kind})


def _images(folder: Path, place: str) -> list[Path]:
    """The folders of images of a set, a folder a slide."""
    return sorted(path for outer in PLACES for path in folder.glob(f"{outer}{place}/**/img"))
