"""A small folder with the layout of the GlaS release: twelve made-up images of three patients."""

from pathlib import Path

import numpy as np
from PIL import Image

IDS = (*(f"train_{n}" for n in (1, 2, 3, 4, 5, 6, 10)), "testA_1", "testA_2", "testA_10", "testB_1", "testB_3")
HEIGHT, WIDTH = 44, 60


def arrays(place: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and object ids [H, W] of one id: two disks on a gradient; testB_3 merges their ids."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disks = [(rows - 14 - place % 3) ** 2 + (columns - x) ** 2 < (7 + place % 4) ** 2 for x in (14, 44)]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, disk in enumerate(disks, 1):
        ids[disk] = 1 if IDS[place] == "testB_3" else number
    red = 180 + place * 4 - 60 * (ids > 0)
    image = np.stack([red + 0 * rows, 90 + rows, 140 + columns], -1)
    return image.astype(np.uint8), ids


def write_tree(folder: Path, extension: str = "png") -> Path:
    """Write the tree; Grade.csv as released: CRLF, blanks after commas, another order than the images."""
    folder.mkdir(parents=True)
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for place, name in enumerate(IDS):
        image, ids = arrays(place)
        Image.fromarray(image).save(folder / f"{name}.{extension}")
        Image.fromarray(ids).save(folder / f"{name}_anno.{extension}")
        lines.append(f"{name},{place % 3 + 1}, {'malignant' if place % 3 == 2 else 'benign'}, healthy")
    text = "\r\n".join([lines[0], *reversed(lines[1:])]) + "\r\n"
    (folder / "Grade.csv").write_bytes(text.encode())
    return folder
