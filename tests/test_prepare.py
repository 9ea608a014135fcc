"""From raw files to prepared arrays: the right values, one clear line a bad file, one result for many workers."""

import json
import logging
import multiprocessing
import os
import resource
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.check import check_dataset, describe
from benchmark.data.load import load_dataset, load_prepared, prepare_arrays
from benchmark.data.make_splits import compare
from benchmark.data.splits import check_split_matches_data, load_split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from tests.conftest import refused
from tests.fake_glas import HEIGHT, IDS, WIDTH, arrays, write_tree
from tests.own_folder import Generated

SIZE = 16


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_tree(tmp_path / "raw" / "glas")
    return tmp_path / "raw"


def opened(tmp_path: Path, raw: Path, **options: object) -> PreparedData:
    return load_prepared("glas", SIZE, raw=raw, root=tmp_path / "prepared", **options)  # type: ignore[arg-type]


def test_values(tmp_path: Path, raw: Path) -> None:
    data = opened(tmp_path, raw)
    assert data.ids == IDS
    assert data.groups["set"] == tuple(name.split("_")[0] for name in IDS)
    assert data.groups["patient"][:4] == ("1", "2", "3", "1") and data.groups["grade"][2] == "malignant"
    assert data.classes == ("background", "gland") and set(np.unique(data.masks)) == {0, 1}
    assert data.native_sizes == ((HEIGHT, WIDTH),) * 12
    for place, name in enumerate(IDS):
        image, ids = arrays(place)
        expected = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        assert np.array_equal(data.images[place], expected)
        native = data.native(name)
        assert native.dtype == np.uint8 and np.array_equal(native > 0, ids > 0)
        assert native.max() == 2, "testB_3 was released with one id for all glands"
        assert data.native_valid(name).all() and data.position(name) == place
    with pytest.raises(UserError, match="train_99"):
        data.position("train_99")


def test_statistics_are_exact(tmp_path: Path, raw: Path) -> None:
    data = opened(tmp_path, raw)
    rows = [0, 3, 5]
    pixels = data.images[rows].reshape(-1, 3).astype(np.float64) / 255
    mean, deviation = data.statistics(rows)
    assert np.allclose(mean, pixels.mean(0), rtol=1e-13) and np.allclose(deviation, pixels.std(0), rtol=1e-12)
    black_and_white = np.zeros((2, 4, 4, 3), np.uint8)
    black_and_white[0] = 255
    assert max(replace(data, images=black_and_white).statistics([0, 1])[1]) == 0.5


@pytest.mark.parametrize("kind", ["bmp", "tif", "zip"])
def test_every_form_of_the_release_is_the_same_data(tmp_path: Path, raw: Path, kind: str) -> None:
    first, other = opened(tmp_path, raw), tmp_path / "other"
    folder = write_tree(other / "Warwick QU Dataset (Released 2016_07_08)", "png" if kind == "zip" else kind)
    if kind == "zip":
        shutil.make_archive(str(other / "warwick_qu_dataset_released_2016_07_08"), "zip", other, folder.name)
        shutil.rmtree(folder)
    second = load_prepared("glas", SIZE, raw=other, root=tmp_path / "second")
    assert (second.fingerprint, second.arrays_fingerprint) == (first.fingerprint, first.arrays_fingerprint)
    assert (second.folder / "native.npz").read_bytes() == (first.folder / "native.npz").read_bytes()
    assert {path.name for path in second.folder.parent.iterdir()} == {".lock", "source.json", str(SIZE)}


def test_fingerprints_see_pixels_and_size(tmp_path: Path, raw: Path) -> None:
    first = opened(tmp_path, raw)
    larger = load_prepared("glas", 32, raw=raw, root=tmp_path / "prepared")
    assert larger.fingerprint == first.fingerprint and larger.arrays_fingerprint != first.arrays_fingerprint
    ids = np.array(Image.open(raw / "glas" / "testA_2_anno.png"))
    ids[0, 0] = 9
    Image.fromarray(ids).save(raw / "glas" / "testA_2_anno.png")
    before = first.native("testA_2").copy()
    changed = opened(tmp_path, raw)
    assert changed.fingerprint != first.fingerprint and changed.native("testA_2")[0, 0] == 9
    assert first.images.any() and np.array_equal(first.native("testA_2"), before), "what is open stays as it was"


@pytest.mark.parametrize("place", ["glas", "GlaS", "Warwick_QU_Dataset", "glas/Warwick_QU_Dataset", "."])
def test_where_it_is_found(tmp_path: Path, place: str) -> None:
    write_tree(tmp_path / "raw" / place)
    (tmp_path / "raw" / "GlaS.txt").write_text("a note")
    found = load_dataset("glas").find(tmp_path / "raw")
    assert (found / "train_1.png").is_file()


def test_not_found_says_what_to_get_and_where_to_put_it(tmp_path: Path) -> None:
    with refused("warwick_qu_dataset_released_2016_07_08.zip", "research", str(tmp_path / "nowhere/glas"), "--data"):
        opened(tmp_path, tmp_path / "nowhere")
    with pytest.raises(UserError, match="Did you mean 'glas'"):
        load_prepared("glass", SIZE)
    with pytest.raises(UserError, match="working size"):
        load_prepared("glas", 3, raw=tmp_path, root=tmp_path)


def _save(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(array).save(path)


def _cut(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text("\n".join(line for line in path.read_text().splitlines() if text not in line))


NOISE = np.random.Generator(np.random.PCG64(1)).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("train_2.png", lambda path: path.write_bytes(path.read_bytes()[:-40]), "truncated or damaged"),
    "text": ("train_2.png", lambda path: path.write_text("<html>404"), "not an image"),
    "folder": ("train_2.png", lambda path: (path.unlink(), path.mkdir()), "no such file"),
    "pages": ("train_2.png", lambda path: Image.new("RGB", (9, 9)).save(
        path, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), "more than one page"),
    "no mask": ("train_2_anno.png", Path.unlink, "train_2.png: its mask is missing"),
    "no image": ("train_2.png", Path.unlink, "without its image"),
    "sizes": ("train_2_anno.png", _save(np.zeros((WIDTH, HEIGHT), np.uint8)), "60 x 44 pixels, its mask"),
    "photo as mask": ("train_2_anno.png", _save(NOISE), "not a mask of objects"),
    "two files": ("train_2.png", lambda path: Image.open(path).save(path.with_suffix(".bmp")), "second file"),
    "no table": ("Grade.csv", Path.unlink, "is missing"),
    "bad row": ("Grade.csv", lambda path: path.write_bytes(b"name\ntrain_2,1,\xff\n"), "line 2: expected"),
    "lost row": ("Grade.csv", _cut("train_2,"), "no row for"),
    "lost image": ("Grade.csv", lambda path: path.write_text(path.read_text() + "testA_60,1, benign\n"), "testA_60"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, raw: Path, case: str) -> None:
    name, spoil, words = BAD[case]
    spoil(raw / "glas" / name)
    with refused(words, name.partition(".")[0].removesuffix("_anno"), str(raw / "glas")):
        opened(tmp_path, raw)
    left = {path.name for path in (tmp_path / "prepared").glob("glas/*")}
    assert left <= {".lock"}, "nothing half-made is left"


def test_bad_file_in_an_archive_is_named_by_the_archive(tmp_path: Path, raw: Path) -> None:
    (raw / "glas" / "train_3.png").write_bytes(b"no")
    shutil.make_archive(str(tmp_path / "glas"), "zip", raw / "glas")
    with pytest.raises(UserError, match=r"glas\.zip/train_3\.png: not an image"):
        opened(tmp_path, tmp_path / "glas.zip")
    with zipfile.ZipFile(tmp_path / "cats.zip", "w") as archive:
        archive.writestr("cat.png", b"")
    with pytest.raises(UserError, match=r"cats\.zip: no images of glas in this archive"):
        opened(tmp_path, tmp_path / "cats.zip")


OWN = """
import numpy as np
from pathlib import Path
from benchmark.data.dataset import Dataset, Item
class Own(Dataset):
    def find(self, raw):
        return Path(raw)
    def items(self, folder):
        for name in "ab":
            image, mask = np.full((20, 20, 3), 10, np.uint8), np.eye(20, dtype=int)
            yield Item(name, lambda: image, lambda: mask, {"set": "train"})
"""


def test_a_data_set_in_a_python_file_is_prepared_again_when_the_file_changes(tmp_path: Path) -> None:
    for number, value in (("1", 10), ("2", 200), ("1", 10)):
        (tmp_path / number).mkdir(exist_ok=True)
        (tmp_path / number / "own.py").write_text(OWN.replace(" 10,", f" {value},"))
        made = load_prepared(f"{tmp_path / number / 'own.py'}:Own", SIZE, raw=tmp_path, root=tmp_path / "prepared")
        assert (made.images == value).all(), "another file of the same name"


def test_class_masks_and_ignore(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 2:8] = mask[12:18, 20:28] = 1
    mask[:, 12:15] = 255
    dataset = Generated(("background", "gland"), {f"train_{n}": (np.full((20, 30, 3), 200, np.uint8), mask)
                                                  for n in range(2)})
    data = prepare_arrays(dataset, SIZE, tmp_path, tmp_path / "classes")
    assert set(np.unique(data.masks)) == {0, 1, 255}
    assert not data.native_valid("train_1")[:, 12:15].any() and data.native_valid("train_1")[:, 15:].all()
    assert sorted(np.unique(data.native("train_1"))) == [0, 1, 2]
    mask[0, 0] = 7
    with pytest.raises(UserError, match=r"train_0: mask values 7 in 1 pixels are outside the classes 0\.\.1"):
        prepare_arrays(dataset, SIZE, tmp_path, tmp_path / "wrong")


def _spoil_index(folder: Path, **changes: object) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **changes}))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated array": lambda folder: os.truncate(folder / "images.npy", 300),
    "one bit": lambda folder: _flip(folder / "images.npy"),
    "json of another kind": lambda folder: (folder / "index.json").write_text("[1]"),
    "other version": lambda folder: _spoil_index(folder, version=0),
    "lost file": lambda folder: (folder / "native.npz").unlink(),
    "truncated masks": lambda folder: os.truncate(folder / "native.npz", 2000),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders_are_prepared_again(
    tmp_path: Path, raw: Path, case: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path, raw)
    marks = first.fingerprint, first.arrays_fingerprint
    DAMAGE[case](first.folder)
    with pytest.raises(UserError, match=r"(damaged|another version).*data prepare glas --size 16"):
        opened(tmp_path, raw, prepare=False)
    with pytest.raises(UserError, match=r"(damaged|another version).*cannot be prepared again: no images of glas"):
        opened(tmp_path, tmp_path / "nowhere")
    monkeypatch.setenv("SEMIHISTO_DATA", str(tmp_path / "nowhere"))
    caplog.clear()
    again = opened(tmp_path, raw)
    assert (again.fingerprint, again.arrays_fingerprint) == marks
    assert "again" in caplog.messages[0]
    assert load_prepared("glas", SIZE, root=tmp_path / "prepared").fingerprint == marks[0], "the raw data may go"


def _worker(raw: Path, root: Path, report: str) -> None:
    messages = Path(f"{report}.log")
    logging.getLogger("benchmark").addHandler(logging.FileHandler(messages))
    data = load_prepared("glas", SIZE, raw=raw, root=root)
    prepared = messages.read_text().count("preparing")
    Path(report).write_text(f"{data.arrays_fingerprint} {prepared}")


def test_workers_at_once_give_one_result(tmp_path: Path, raw: Path) -> None:
    left = tmp_path / "prepared" / "glas" / f".{SIZE}.k_illed1"
    left.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(raw, tmp_path / "prepared", f"{tmp_path}/{n}")) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    reports = [(tmp_path / str(number)).read_text().split() for number in range(4)]
    assert len({fingerprint for fingerprint, _ in reports}) == 1
    assert sorted(count for _, count in reports) == ["0", "0", "0", "1"], "one prepared, three found it done"
    assert not left.exists()


def _full_disk(raw: Path, root: Path, report: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    try:
        load_prepared("glas", SIZE, raw=raw, root=root)
    except UserError as error:
        os.write(os.open(report, os.O_WRONLY | os.O_CREAT), str(error).encode())


def test_full_disk_and_file_in_the_way(tmp_path: Path, raw: Path) -> None:
    root = tmp_path / "prepared"
    worker = multiprocessing.get_context("fork").Process(target=_full_disk, args=(raw, root, f"{tmp_path}/report"))
    worker.start()
    worker.join(30)
    text = (tmp_path / "report").read_text()
    assert "nothing was prepared" in text
    assert {path.name for path in (root / "glas").iterdir()} <= {".lock"}
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file stands where"):
        load_prepared("glas", SIZE, raw=raw, root=tmp_path / "file")


@pytest.mark.glas
def test_real_glas(real_glas: Path, tmp_path: Path) -> None:
    data = load_prepared("glas", 32, raw=real_glas, root=tmp_path)
    assert len(data.ids) == 165 and data.ids[:2] == ("train_1", "train_2") and data.ids[-1] == "testB_20"
    assert [int(data.native(f"testB_{number}").max()) for number in (3, 11, 18, 19)] == [7, 5, 8, 7]
    text = "\n".join(describe(check_dataset(data)))
    assert "split official: 79 of the 80 test images" in text and "85 images (37 benign, 48 malignant)" in text
    assert data.fingerprint.startswith("4decad94e5e8")
    fine, lines = compare(data)
    assert fine and len(lines) == 3 and not any("other pixels" in line for line in lines)
    assert check_split_matches_data(load_split(data.dataset, "patients", 20, 2), data) == []
