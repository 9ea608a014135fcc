"""What a data set is known by: the content of its files, not their names and sizes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import source
from benchmark.data.load import current_fingerprint, load_dataset, load_prepared
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import ArrayFile, write_arrays
from tests.conftest import demo_run, invoke, one_line_error, tiny_settings
from tests.fake_glas import write_tree
from tests.own_folder import YAML, write_folder

SIZE = 16


def bitmaps(folder: Path) -> Path:
    """All images and masks as BMP, whose size says nothing of what is in them."""
    for path in list(folder.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return folder


def shift(path: Path) -> None:
    """Another mask of the same size in the same file."""
    Image.fromarray(np.roll(np.array(Image.open(path)), 7, 1)).save(path)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    return bitmaps(write_folder(tmp_path / "cells", YAML))


def opened(given: Path | str, tmp_path: Path, **options: object) -> PreparedData:
    return load_prepared(str(given), SIZE, root=tmp_path / "prepared", **options)  # type: ignore[arg-type]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of images that were read since without being prepared."""
    found: list[str] = []
    decode = source.decode
    monkeypatch.setattr(source, "decode", lambda dataset, item: found.append(item.id) or decode(dataset, item))
    return found


def test_a_mask_that_is_edited_in_place_is_seen(cells: Path, tmp_path: Path, reads: list[str]):
    before = opened(cells, tmp_path)
    path = cells / "masks" / "A_0.bmp"
    size = path.stat().st_size
    assert opened(cells, tmp_path).content == before.content and not reads, "an unchanged folder is not read"
    shift(path)
    after = opened(cells, tmp_path)
    assert path.stat().st_size == size and after.fingerprint != before.fingerprint and len(reads) == 20
    assert np.array_equal(after.native_classes("A_0"), np.array(Image.open(path)))
    assert current_fingerprint(load_dataset(str(cells)), "folds", root=tmp_path / "prepared") == after.fingerprint
    assert len(reads) == 20, "what was read is remembered"


def test_an_edit_that_keeps_size_and_time_is_seen_by_inode_or_by_who_reads(cells: Path, tmp_path: Path):
    before, path = opened(cells, tmp_path), cells / "masks" / "A_0.bmp"
    times = path.stat()
    shutil.copy(path, tmp_path / "new.bmp")
    for edited in (path, tmp_path / "new.bmp"):
        shift(edited)
        os.utime(edited, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert opened(cells, tmp_path).content == before.content, "nothing that a look tells has changed"
    os.replace(tmp_path / "new.bmp", path)
    after = opened(cells, tmp_path)
    assert after.fingerprint != before.fingerprint
    shift(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert opened(cells, tmp_path, read=True).fingerprint != after.fingerprint


def test_files_that_were_only_touched_are_read_once_and_not_prepared(cells: Path, tmp_path: Path, reads: list[str]):
    before = opened(cells, tmp_path)
    arrays = (before.folder / "images.npy").stat().st_ino
    for path in cells.rglob("*.bmp"):
        os.utime(path)
    assert opened(cells, tmp_path).content == opened(cells, tmp_path).content == before.content
    assert len(reads) == 20 and (before.folder / "images.npy").stat().st_ino == arrays


def test_two_folders_of_one_name_are_two_data_sets(cells: Path, tmp_path: Path):
    other = tmp_path / "of others" / "cells"
    shutil.copytree(cells, other, copy_function=shutil.copy2)
    same, first = opened(other, tmp_path), opened(cells, tmp_path)
    assert same.content == first.content
    shift(other / "masks" / "A_0.bmp")
    second = opened(other, tmp_path)
    assert (first.name, second.name) == ("cells", "cells") and second.fingerprint != first.fingerprint
    assert opened(cells, tmp_path).content == first.content and opened(other, tmp_path).content == second.content
    assert first.folder != second.folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_tree(tmp_path / "raw" / "glas")
    return tmp_path / "raw"


def test_another_copy_is_looked_at(raw: Path, tmp_path: Path):
    write_tree(tmp_path / "copy" / "glas", "bmp")
    first = opened("glas", tmp_path, raw=raw)
    arrays = (first.folder / "images.npy").stat().st_ino
    assert opened("glas", tmp_path, raw=tmp_path / "copy").content == first.content
    assert (first.folder / "images.npy").stat().st_ino == arrays, "the same pixels are not prepared again"
    shift(tmp_path / "copy" / "glas" / "train_1_anno.bmp")
    assert opened("glas", tmp_path, raw=tmp_path / "copy").fingerprint != first.fingerprint
    assert opened("glas", tmp_path, raw=raw).fingerprint == first.fingerprint
    with pytest.raises(UserError, match="no images of glas under"):
        opened("glas", tmp_path, raw=tmp_path / "nowhere")


def test_what_was_spoiled_after_it_was_prepared_is_noticed(raw: Path, tmp_path: Path):
    opened("glas", tmp_path, raw=raw)
    (raw / "glas" / "train_2.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"train_2.png: not an image"):
        opened("glas", tmp_path, raw=raw)


def test_an_archive_is_read_again_when_it_is_another(raw: Path, tmp_path: Path):
    archive = Path(shutil.make_archive(str(tmp_path / "glas"), "zip", raw / "glas"))
    first = opened("glas", tmp_path, raw=archive)
    assert opened("glas", tmp_path, raw=archive).content == opened("glas", tmp_path, raw=raw).content == first.content
    shift(raw / "glas" / "train_1_anno.png")
    shutil.make_archive(str(tmp_path / "glas"), "zip", raw / "glas")
    assert opened("glas", tmp_path, raw=archive).fingerprint != first.fingerprint
    assert not list(tmp_path.rglob(".unpacked.*"))


def test_check_and_prepare_read_what_seems_unchanged(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    arguments = (cells, "--size", SIZE)
    first = invoke("data", "check", *arguments).stdout
    assert first.startswith("cells: 20 images") and invoke("data", "check", *arguments).stdout == first
    path = cells / "masks" / "A_0.bmp"
    times = path.stat()
    shift(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = invoke("data", "check", *arguments).stdout
    assert second.splitlines()[0] != first.splitlines()[0], "the fingerprint in the first line"
    path.write_bytes(b"no")
    assert "A_0.bmp: not an image" in one_line_error(invoke("data", "prepare", *arguments))


@pytest.fixture
def with_splits(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    assert invoke("data", "split", cells, "--write", "--size", SIZE).returncode == 0
    return cells


def run(folder: Path, tmp_path: Path, *more: object):
    return demo_run(tmp_path / "results", "supervised", *more, dataset=folder)


def test_a_record_of_other_masks_is_stale_and_of_another_folder_told_as_that(with_splits: Path, tmp_path: Path):
    assert run(with_splits, tmp_path).returncode == 0
    other = tmp_path / "of others" / "cells"
    shutil.copytree(with_splits, other)
    for folder in (with_splits, other):
        assert "already done" in run(folder, tmp_path).stderr, "negative control: the same images"
        shift(folder / "masks" / "A_0.bmp")
        line = one_line_error(run(folder, tmp_path))
        assert "is stale: made from other images or masks (" in line and "--overwrite" in line
    assert f"If it is of another data set, give this one another name in {other / 'dataset.yaml'}" in line
    again = run(with_splits, tmp_path, "--overwrite")
    assert again.returncode == 0 and "already done" not in again.stderr
    (record,) = (tmp_path / "results" / "records").glob("*.json")
    kept = {path.name.split(".", 1)[1] for path in record.parent.iterdir()}
    assert kept == {"json", "npz", "json.old1", "npz.old1"}, "the old one is set aside"
    assert json.loads(record.read_text())["data"]["fingerprint"] == opened(with_splits, tmp_path).fingerprint


def test_a_grid_looks_at_the_data_and_runs_what_is_stale_when_asked(with_splits: Path, tmp_path: Path):
    settings = "".join(f"      {text.replace('=', ': ')}\n" for text in tiny_settings()[1::2])
    (tmp_path / "mine.yaml").write_text(
        f"about: x\npreset: demo\ndatasets: [{with_splits}]\ndraws: [0]\nrows:\n  supervised:\n    method: supervised\n"
        f"    set:\n{settings}")
    grid = ("grid", tmp_path / "mine.yaml", "--results", tmp_path / "results", "--json")

    def states(*arguments: object) -> dict[str, int]:
        return json.loads(invoke(*arguments).stdout)["states"]

    assert run(with_splits, tmp_path, "--ratio", 20).returncode == 0
    assert states(*grid, "--dry-run") == {"done": 1}
    shift(with_splits / "masks" / "A_0.bmp")
    assert states(*grid, "--dry-run") == {"stale": 1}
    assert states("status", *grid[1:]) == {"stale": 1}
    with_splits.rename(tmp_path / "gone")
    (tmp_path / "gone" / "masks" / "A_0.bmp").write_bytes(b"no")
    (tmp_path / "gone").rename(with_splits)
    assert "A_0.bmp: not an image" in one_line_error(invoke(*grid, "--dry-run"))


AWKWARD = ("file", "allow_pickle", "x", "x.npy", "mask", "arr_0")


def test_ids_and_names_of_arrays_may_be_any_text(tmp_path: Path):
    folder = write_folder(tmp_path / "names", "classes: {background: 0, one: 1, two: 2}\n", len(AWKWARD), bare=0)
    masks = {}
    for name, path in zip(AWKWARD, sorted((folder / "images").iterdir()), strict=True):
        mask = folder / "masks" / path.name
        masks[name] = np.array(Image.open(mask))
        path.rename(path.with_name(f"{name}.png"))
        mask.rename(mask.with_name(f"{name}.png"))
    data = opened(folder, tmp_path)
    assert set(data.ids) == set(AWKWARD)
    assert all(np.array_equal(data.native_classes(name), mask) for name, mask in masks.items())
    for name in ("a", "b"):
        with open(tmp_path / f"{name}.npz", "wb") as stream:
            write_arrays(stream, dict(reversed(masks.items())) if name == "b" else masks)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = ArrayFile(tmp_path / "a.npz")
    assert set(found) == set(masks) and all(np.array_equal(found[name], masks[name]) for name in masks)
