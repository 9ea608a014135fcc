"""Who must not be on both sides of a split, in what words sets are named, and lists that are older than both."""

import json
from pathlib import Path

import pytest

from benchmark.data import splits
from benchmark.data.fold_lists import patients
from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.make_splits import write
from benchmark.data.splits import check_split_matches_data, load_split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from tests.conftest import demo_run, invoke, one_line_error
from tests.own_folder import PATIENTS, YAML, write_folder, write_table

SIZE = 16
IDS = [f"{PATIENTS[number % 5]}_{number}" for number in range(20)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    return write_folder(tmp_path / "cells", YAML, bare=0)


def opened(folder: Path) -> PreparedData:
    return load_prepared(str(folder), SIZE)


def sides(folder: Path) -> list[set[str]]:
    """Of each fold, the first letters of the images that are on both sides."""
    content = json.loads((folder / "splits" / "folds.json").read_text())
    return [{name[0] for name in fold["train"]} & {name[0] for name in fold["test"]} for fold in content["folds"]]


def test_the_patient_else_the_slide_else_the_image():
    groups = {"patient": ("P1", "", "", "NA", "n/a", "-", " P1 "), "slide": ("1", "1", "7", "7", "", "NA", "2")}
    assert patients("abcdefg", groups) == ["P1", "P1", "slide 7", "slide 7", "e", "f", "P1"]
    counted = {"patient": ("P1", "P2", ""), "slide": ("1", "1", "1")}
    assert patients("abc", counted) == ["P1", "P2", "slide 1"], "a slide's number counts within its patient"
    assert patients("ab", {"set": ("train", "test")}) == ["a", "b"]


@pytest.mark.parametrize(("train", "test", "means"), [
    ("training", "testing", "test"), ("TRAIN ", " Test", "test"), ("train", "testB", "testB"),
])
def test_one_vocabulary_of_sets(folder: Path, train: str, test: str, means: str):
    write_table(folder, "set", lambda name: test if name[0] == "A" else train)
    assert set(opened(folder).groups["set"]) == {"train", means}
    write(opened(folder))
    assert {name[0] for name in load_split(load_dataset(str(folder)), "official", 20, 0).test} == {"A"}


@pytest.mark.parametrize("word", ["1", "val", ""])
def test_an_unknown_word_for_a_set_is_one_line(folder: Path, word: str):
    write_table(folder, "set,grade", lambda name: f"{word if name == 'A_0' else 'train'},x")
    line = one_line_error(invoke("data", "check", folder, "--size", SIZE))
    assert f"the image 'A_0' is in set '{word}'" in line and "write train, validation" in line


def test_a_table_and_a_folder_must_agree(folder: Path):
    for part in ("images", "masks"):
        (folder / "test" / part).parent.mkdir(exist_ok=True)
        (folder / part).rename(folder / "test" / part)
    said = "name: cells\nclasses: {background: 0, one: 1, two: 2}\nimage_files: '{set}/images/{name}'\n"
    (folder / "dataset.yaml").write_text(said + "mask_files: '{set}/masks/{name}'\ngroups: groups.csv\n")
    names = [path.stem for path in (folder / "test" / "images").iterdir()]
    (folder / "groups.csv").write_text("id,set\n" + "".join(f"test_{name},train\n" for name in names))
    with pytest.raises(UserError, match=r"set of 'test_\w+' is 'train', but by its folder 'test'; keep one"):
        opened(folder)


def run(folder: Path, tmp_path: Path, *more: object):
    return demo_run(tmp_path / "results", "supervised", *more, dataset=folder)


def test_lists_older_than_the_groups_are_refused(folder: Path, tmp_path: Path):
    write_table(folder, "patient", lambda name: name)
    write(opened(folder))
    assert run(folder, tmp_path).returncode == 0, "negative control: lists and groups of one time"
    write_table(folder, "patient", lambda name: name[0])
    line = one_line_error(run(folder, tmp_path, "--seed", 1))
    assert "split 'folds' of cells was made before its sets, patients or slides were changed" in line
    assert f"data split {folder} --write" in line
    checked = invoke("data", "check", folder, "--size", SIZE)
    assert checked.returncode == 4 and "WRONG: patients, split folds" in checked.stdout
    write(opened(folder))
    assert sides(folder) == [set()] * 3 and run(folder, tmp_path, "--seed", 1).returncode == 0
    assert invoke("data", "check", folder, "--size", SIZE).returncode == 0


def test_a_column_that_no_split_is_made_from_changes_nothing(folder: Path):
    write(data := opened(folder))
    write_table(folder, "patient,grade,stain", lambda name: f"{name[0]},low,new")
    split = load_split(data.dataset, "folds", 20, 0)
    assert check_split_matches_data(split, opened(folder)) == []


def test_lists_older_than_ones_own_list_files_are_refused(folder: Path):
    (folder / "a.txt").write_text("\n".join(name for name in IDS if name[0] in "ABC"))
    (folder / "b.txt").write_text("\n".join(name for name in IDS if name[0] in "DE"))
    with open(folder / "dataset.yaml", "a") as file:
        file.write("splits:\n  mine: [{train: a.txt, test: b.txt}, {train: b.txt, test: a.txt}]\n")
    write(data := opened(folder))
    assert {name[0] for name in load_split(data.dataset, "mine", 20, 1).test} == set("ABC")
    split = load_split(data.dataset, "mine", 20, 0)
    assert check_split_matches_data(split, data) == []
    (folder / "b.txt").write_text("\n".join(name for name in IDS if name[0] == "E"))
    with pytest.raises(UserError, match=r"'mine' of cells was made before its list files .* were changed"):
        check_split_matches_data(split, opened(folder))


def test_a_split_that_is_not_made_any_more_is_set_aside(folder: Path, tmp_path: Path):
    write_table(folder, "patient,set", lambda name: f"{name[0]},{'test' if name[0] == 'A' else 'train'}")
    write(opened(folder))
    write_table(folder, "patient", lambda name: name[0])
    assert "split 'official' of cells was made before" in one_line_error(run(folder, tmp_path))
    told = write(opened(folder))
    assert any("official.json: this split is not made any more" in line for line in told)
    assert splits.default_split(load_dataset(str(folder))) == "folds"
    assert (folder / "splits" / "official.json.old1").is_file() and run(folder, tmp_path).returncode == 0


def test_a_read_only_folder_of_images_is_described_from_elsewhere(folder: Path, tmp_path: Path):
    """On a cluster the images lie where nothing may be written: dataset.yaml, groups and splits lie in a folder of
    the user's own."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (folder / "groups.csv").rename(mine / "groups.csv")
    (folder / "dataset.yaml").unlink()
    (mine / "dataset.yaml").write_text(
        f"name: theirs\nclasses: {{background: 0, one: 1, two: 2}}\ngroups: groups.csv\nimage_files: {folder}/images\n"
        f"mask_files: {folder}/masks\n")
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    assert invoke("data", "split", mine, "--write", "--size", SIZE).returncode == 0
    assert run(mine, tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    assert (mine / "splits" / "folds.json").is_file() and set(opened(mine).ids) == set(IDS)
