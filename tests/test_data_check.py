"""`data check`: what several classes, missing masks and images that occur twice look like in its lines."""

import dataclasses
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scipy.fft import idctn

from benchmark.data.check import Facts, check_dataset, describe, has_errors
from benchmark.data.load import load_prepared, prepare_arrays
from benchmark.data.make_splits import write
from benchmark.data.near_duplicates import POSITIONS, near_duplicates
from tests.conftest import invoke, one_line_error
from tests.fake_glas import write_tree
from tests.own_folder import YAML, Generated, write_folder, write_table


def examined(tmp_path: Path, **masks: tuple[int, ...]) -> Facts:
    """Four classes on noise, in stripes that `masks` says; an image without an entry there has no mask."""
    pictures = {}
    for number, name in enumerate(("train_1", "train_2", "train_3", "test_1", "test_2")):
        image = np.random.Generator(np.random.PCG64(number)).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        mask = np.array(masks[name], np.uint8).repeat(10)[:, None].repeat(40, 1) if name in masks else None
        pictures[name] = image, mask
    return check_dataset(prepare_arrays(Generated(tuple("abcd"), pictures), 32, tmp_path, tmp_path / "tissue"))


def test_shares_of_classes_and_what_has_no_mask(tmp_path: Path) -> None:
    facts = examined(tmp_path, train_1=(0, 1, 1, 0), train_2=(0, 1, 255, 255), test_1=(0, 0, 1, 2))
    lines = describe(facts)
    for line in (
        "train: 3 images; 1 without a mask, which can only be unlabelled training images",
        "test: 2 images; 1 without a mask, which cannot be scored",
        "train: 50.0% of pixels are b (in 2 images), 0.0% of pixels are c (in 0 images), 0.0% of pixels are d (in 0 "
        "images), 2 objects, 1 to 1 an image; 25.0% of pixels are to be ignored",
        "test: 25.0% of pixels are b (in 1 image), 25.0% of pixels are c (in 1 image), 0.0% of pixels are d (in 0 "
        "images), 2 objects, 2 to 2 an image",
        "class 'c' is in no training mask, only in test: it cannot be learned",
        "class 'd' is in no mask: it can neither be learned nor scored; is its value right, or is it the value that is "
        "ignored?",
        "no image that is learned from is also tested on (splits: as released)",
    ):
        assert line in lines
    assert facts["sets"]["train"]["classes"]["b"] == {"pixels": 0.5, "images": 2, "filled": 0} and not has_errors(facts)
    lines = describe(examined(tmp_path / "untested", train_1=(0, 1, 2, 3)))
    assert "class 'd' is in training masks only: no test image shows whether it was learned" in lines


def test_all_files_that_cannot_be_used_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    folder = write_folder(tmp_path / "mine", YAML)
    broken = sorted((folder / "masks").iterdir())[:2]
    for path in broken:
        path.write_bytes(b"no image")
    said = one_line_error(invoke("data", "check", folder))
    assert "2 of " in said and all(str(path) in said for path in broken)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As GlaS, with noise as images, so that no two look alike; prepared where no other test prepares its GlaS."""
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    folder = write_tree(tmp_path / "raw" / "glas")
    for number, path in enumerate(sorted(path for path in folder.glob("*.png") if "anno" not in path.name)):
        noise = np.random.Generator(np.random.PCG64(number)).integers(0, 255, (11, 15, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60, 44), Image.Resampling.BICUBIC).save(path)
    table = (folder / "Grade.csv").read_text().splitlines()  # each image is of a patient of its own
    rows = [re.sub(r",\d+,", f",{number},", line) for number, line in enumerate(table)]
    (folder / "Grade.csv").write_text("\n".join(rows))
    return tmp_path / "raw"


def checked(tmp_path: Path, raw: Path) -> Facts:
    return check_dataset(load_prepared("glas", 32, raw=raw, root=tmp_path / "prepared"))


def test_the_same_image_in_training_and_test_is_certainly_wrong(tmp_path: Path, raw: Path) -> None:
    assert checked(tmp_path, raw)["leaks"] == []
    same = Image.open(raw / "glas" / "train_2.png")
    same.save(raw / "glas" / "testA_2.png")
    same.save(raw / "glas" / "train_4.png")
    facts = checked(tmp_path, raw)
    assert facts["duplicates"] == [["train_2", "train_4", "testA_2"]] and facts["near_duplicates"] == []
    official = [leak for leak in facts["leaks"] if leak["split"] == "official"]
    assert [(leak["training"], leak["test"], leak["folds"]) for leak in official] == [
        ("train_2", "testA_2", [0, 1, 2]), ("train_4", "testA_2", [0, 1, 2])
    ]
    assert has_errors(facts)
    assert ("WRONG: split official, folds 0, 1, 2: the training image train_2 is the test image testA_2; leave one of "
            "them out") in describe(facts)
    result = invoke("data", "check", "glas", "--size", 32, "--from", raw)
    assert result.returncode == 4 and "WRONG: split official" in result.stdout


def test_a_copy_that_looks_alike_is_told_and_is_no_error(tmp_path: Path, raw: Path) -> None:
    copy = Image.open(raw / "glas" / "train_3.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copy.point(lambda value: value * 0.9).save(raw / "glas" / "testB_1.png")
    facts = checked(tmp_path, raw)
    assert [pair["images"] for pair in facts["near_duplicates"]] == [["train_3", "testB_1"]]
    lines = [line for line in describe(facts) if line.startswith("split official")]
    assert len(lines) == 1 and "train_3 looks like the test image testB_1 (mirrored left to right, corr" in lines[0]
    assert not has_errors(facts)
    result = invoke("data", "check", "glas", "--size", 32, "--from", raw, "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["leaks"][0]["test"] == "testB_1"


def test_patients_of_every_split_are_compared(tmp_path: Path) -> None:
    """Lists of a split that is to keep patients apart, and of a table of groups that was corrected afterwards."""
    folder = write_folder(tmp_path / "cells", YAML)
    prepared = load_prepared(str(folder), 16, root=tmp_path / "prepared")
    write(prepared)
    facts = check_dataset(dataclasses.replace(prepared, groups=prepared.groups | {"slide": ("1",) * 20}))
    assert facts["sets"]["train"]["slides"] == 5, "a slide's number counts within its patient"
    found = facts["patients"]["folds"]
    assert not has_errors(facts) and (found["test_images"], found["shared"]) == (16, 0)
    patients = tuple("A" if name == "A" else "X" for name in prepared.groups["patient"])
    facts = check_dataset(dataclasses.replace(prepared, groups=prepared.groups | {"patient": patients}))
    assert has_errors(facts) and "WRONG: patients, split folds: " in "\n".join(describe(facts))


def test_validation_images_are_learned_from(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cells", YAML, bare=0)
    held = {"A": "A,test", "B": "A,validation"}
    write_table(folder, "patient,set", lambda name: held.get(name[0], f"{name[0]},train"))
    prepared = load_prepared(str(folder), 16, root=tmp_path / "prepared")
    write(prepared)
    assert check_dataset(prepared)["patients"]["official"] == {"test_images": 4, "shared_images": 4, "shared": 1}


@pytest.mark.parametrize(("value", "words"), [(255, "is 'gland'"), (0, "is 'background'"), (None, "")])
def test_masks_that_are_one_class_all_over_are_wrong(tmp_path: Path, value: int | None, words: str) -> None:
    yaml = "classes: {background: 0, gland: 255}\n"
    folder = write_folder(tmp_path / "cells", yaml, images=6, bare=0, classes=2, values=(0, 255))
    for path in (folder / "masks").iterdir():
        if value is not None:
            Image.new("L", (52, 40), value).save(path)
    result = invoke("data", "check", folder, "--size", 16)
    assert result.returncode == (4 if words else 0), result.stderr
    assert ("WRONG: every pixel of every mask" in result.stdout) == bool(words) and words in result.stdout
    assert result.stdout.endswith("no image is for tests yet: make lists with `data split`\n")


def test_masks_that_lost_their_objects_numbers_are_told(tmp_path: Path, raw: Path) -> None:
    assert "one number" not in "\n".join(describe(checked(tmp_path, raw)))
    for path in (raw / "glas").glob("*_anno.png"):
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    assert "train: 7 of 7 masks have one number for all of their objects" in "\n".join(describe(checked(tmp_path, raw)))


def test_ignored_pixels_that_may_be_a_class_are_told(tmp_path: Path) -> None:
    """255 in half of the masks and 1 in the others: with `ignore: 255` half of the labels would be gone."""
    masks = {"train_1": (0, 1, 1, 0), "train_2": (0, 255, 255, 0), "test_1": (0, 1, 255, 0)}
    said = [line for line in describe(examined(tmp_path, **masks)) if "ignored pixels alone" in line]
    assert len(said) == 1 and said[0].startswith("train: 1 of 2 masks hold 'a' and ignored pixels alone")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG": lambda image: _jpeg(image, 20),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "a little turned": lambda image: image.rotate(1, Image.Resampling.BICUBIC, fillcolor=(220, 180, 220)),
}
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda image: image, "mirrored left to right": np.fliplr, "mirrored top to bottom": np.flipud,
    "turned by 90 degrees": lambda image: np.rot90(image, -1),
    "turned by 180 degrees": lambda image: np.rot90(image, 2), "turned by 270 degrees": np.rot90,
    "mirrored on the diagonal": lambda image: image.swapaxes(0, 1),
    "mirrored on the other diagonal": lambda image: np.rot90(image, 2).swapaxes(0, 1),
}


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """uint8 [84, 96, 96, 3]: generated, no two images of one place."""
    return np.array(load_prepared("synthetic", 96).images)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_each_image_is_found_and_nothing_else(tissue: np.ndarray, kind: str) -> None:
    copies = np.stack([np.asarray(COPIES[kind](Image.fromarray(image)).convert("RGB")) for image in tissue])
    found = near_duplicates(np.concatenate([tissue, copies] * 2))  # more than one block of comparisons
    pairs = {(first, second) for first, second, *_ in found}
    assert pairs == {(one, other) for one in range(336) for other in range(one + 1, 336) if (other - one) % 84 == 0}
    assert {position for _, _, position, _ in found} == {""}


@pytest.mark.parametrize("position", TURNS)
def test_a_turned_copy_is_found_and_its_position_told(tissue: np.ndarray, position: str) -> None:
    assert set(TURNS) == set(POSITIONS.values())
    found = near_duplicates(np.stack([tissue[5], tissue[9], TURNS[position](tissue[5])]))
    assert [pair[:3] for pair in found] == [(0, 2, position)] and found[0][3] > 0.99


def test_smooth_images_agree_in_what_is_coarse_and_are_not_alike() -> None:
    """One illumination, other details: nearly the pixels agree, too."""
    random = np.random.Generator(np.random.PCG64(0))
    waves = np.zeros((96, 96))
    waves[:8, :8] = 300 * random.choice([-1, 1], (8, 8))
    light = 128 + idctn(waves, norm="ortho")
    images = np.clip(light + random.normal(0, 12, (2, 96, 96)), 0, 255).astype(np.uint8)
    images = np.repeat(images[..., None], 3, -1)
    first, second = images[..., 0].astype(float)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.7, "what a plain correlation would say"
    assert near_duplicates(images) == []
    assert len(near_duplicates(np.stack([images[0], np.asarray(_jpeg(Image.fromarray(images[0]), 90))]))) == 1


def test_empty_slides_are_passed_over() -> None:
    assert near_duplicates(np.full((50, 32, 32, 3), 240, np.uint8)) == []
    assert near_duplicates(np.zeros((0, 32, 32, 3), np.uint8)) == []
