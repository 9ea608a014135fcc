"""Images that nobody has masks for: they can only be unlabelled training images (`--unlabelled`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.collections import COLLECTIONS
from benchmark.data.dataset import Dataset, Item
from benchmark.data.folder_dataset import default_name
from benchmark.data.images import EXTENSIONS, FEW, read_image
from benchmark.errors import UserError


class ImagePool(Dataset):
    """All images of a folder and of the folders in it."""

    images_only = True
    why_unlabelled = "it is a folder of images alone"

    def __init__(self, folder: Path) -> None:
        self.home, self.name, self.source = folder, default_name(folder), str(folder)

    def find(self, raw: Path) -> Path:
        assert self.home is not None
        return self.home

    def items(self, folder: Path) -> Iterator[Item]:
        found = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.name[0] != "."]
        for path in sorted(found):
            yield Item(path.relative_to(folder).as_posix(), path, None, {"set": "train"})

    def read_image(self, item: Item) -> np.ndarray:
        """uint8 [H, W, 3]. UserError for what cannot be read, and for a picture that must be a mask."""
        assert isinstance(item.image, Path)
        image = read_image(item.image)
        colours = np.unique(image[::4, ::4].reshape(-1, 3), axis=0)
        if 1 < len(colours) <= FEW and min(image.shape[:2]) >= 16:
            raise UserError(f"{item.image}: has few colours, as a mask has; name a folder of images alone")
        return image


class CollectionPool(ImagePool):
    """A public collection, in a folder of its name among the raw data."""

    def __init__(self, name: str) -> None:
        self.name = self.source = name
        _, self.domain, self.licence, self.why_unlabelled, self.how_to_get = COLLECTIONS[name]

    def find(self, raw: Path) -> Path:
        if (raw / self.name).is_dir():
            return raw / self.name
        raise UserError(f"no folder {raw / self.name}. {self.how_to_get} Put the images there (.png, .tif or .jpg, in "
                        "folders of any names), or name another place with --data FOLDER or SEMIHISTO_DATA")
