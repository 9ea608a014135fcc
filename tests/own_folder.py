"""A small folder of one's own: images with disks of two classes, of five patients, some without a mask."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.dataset import Dataset, Item

HEIGHT, WIDTH = 40, 52
PATIENTS = "ABCDE"
YAML = "name: cells\nclasses: {background: 0, one: 1, two: 2}\ngroups: groups.csv\n"
COLOURS = np.array([[230, 200, 220], [150, 70, 140], [90, 110, 190]])


def picture(number: int, classes: int = 3, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W, 3] and class indices [H, W]: a large disk of class 1 and, of three classes, a small one of 2."""
    rows, columns = np.mgrid[:height, :width]
    truth = np.zeros((height, width), np.uint8)
    truth[(rows - height // 2 + number % 5) ** 2 + (columns - width // 3) ** 2 < (9 + number % 4) ** 2] = 1
    if classes > 2:
        truth[(rows - height // 3) ** 2 + (columns - width * 3 // 4) ** 2 < 40] = 2
    noise = np.random.default_rng(number).integers(-12, 13, (height, width, 3))
    return np.clip(COLOURS[truth] + noise, 0, 255).astype(np.uint8), truth


class Generated(Dataset):
    """Pictures in memory, {id: (image, class indices or None)}; ids that begin with `test_` are for testing."""

    name, instances, may_lack_masks = "generated", False, True

    def __init__(self, classes: tuple[str, ...], pictures: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> None:
        self.classes, self.pictures = classes, pictures

    def find(self, raw: Path) -> Path:
        return raw

    def items(self, folder: Path) -> Iterator[Item]:
        for name, (image, mask) in self.pictures.items():
            truth = None if mask is None else lambda mask=mask: mask
            yield Item(name, lambda image=image: image, truth, {"set": "test" if name[:5] == "test_" else "train"})


def write_folder(
    folder: Path, yaml: str = "", images: int = 20, bare: int = 4, classes: int = 3,
    values: tuple[int, ...] = (0, 1, 2),
) -> Path:
    """Write images/, masks/ (the last `bare` images have none), groups.csv and dataset.yaml; masks hold `values`."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    lines = ["id,patient,grade"]
    for number in range(images):
        image, truth = picture(number, classes)
        name = f"{PATIENTS[number % len(PATIENTS)]}_{number}"
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        if number < images - bare:
            Image.fromarray(np.array(values, np.uint8)[truth]).save(folder / "masks" / f"{name}.png")
        lines.append(f"{name},{PATIENTS[number % len(PATIENTS)]},{'low' if number % 3 else 'high'}")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    if yaml:
        (folder / "dataset.yaml").write_text(yaml)
    return folder


def write_table(folder: Path, header: str, row: Callable[[str], str]) -> None:
    """Another groups.csv: under `id` and `header` a row for each image."""
    names = [path.stem for path in (folder / "images").iterdir()]
    (folder / "groups.csv").write_text("\n".join([f"id,{header}", *(f"{name},{row(name)}" for name in names)]) + "\n")
