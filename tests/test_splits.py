"""Split lists: nested, stratified, disjoint where it counts, verified, and the same wherever they are made."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.dataset import Dataset
from benchmark.data.fold_lists import FoldOrder, ImageInfo, apportion, assign_patients_to_folds, percent, shuffled
from benchmark.data.load import load_dataset
from benchmark.data.make_splits import compare, make_all, write
from benchmark.data.splits import Split, check_split_matches_data, load_split, split_names
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.paths import CONFIGS
from tests.conftest import refused
from tests.factories import offered

SHARES = (0.14, 0.12, 0.12, 0.11, 0.1, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.02, 0.01, 0.01)  # of images, by patient


def pretend(dataset: Dataset, train: int = 85, test: int = 80, fingerprint: str = "pixels") -> PreparedData:
    """Prepared data without pixels: GlaS's numbers of images, 14 patients that both sets share."""
    bounds = np.cumsum(SHARES)
    ids, sets, patients, grades = [], [], [], []
    for name, count in (("train", train), ("testA", test)):
        for number in range(count):
            ids.append(f"{name}_{number + 1}")
            sets.append(name)
            patients.append(str(int(np.searchsorted(bounds, (number + 0.5) / count))))
            grades.append("benign" if number < round(count * 37 / 85) else "malignant")
    nothing = np.zeros((len(ids), 0), np.uint8)
    groups = {"set": tuple(sets), "patient": tuple(patients), "grade": tuple(grades)}
    return PreparedData(dataset, 96, Path("nowhere"), nothing, nothing, tuple(ids), groups, ("background", "gland"),
                    fingerprint, "arrays", ((1, 1),) * len(ids), ("",) * len(ids), {}, frozenset(), ())


@pytest.fixture
def glas(tmp_path: Path) -> Dataset:
    """GlaS, with its lists in a folder of its own."""
    dataset = load_dataset("glas")
    dataset.splits_folder = tmp_path / "splits"
    write(pretend(dataset))
    return dataset


def grades(glas: Dataset) -> dict[str, str]:
    prepared = pretend(glas)
    return dict(zip(prepared.ids, prepared.groups["grade"], strict=True))


def everything(glas: Dataset) -> list[Split]:
    return [load_split(glas, name, ratio, fold)
            for name, (ratios, folds) in offered(glas).items() for ratio in ratios for fold in range(folds)]


def test_every_split_is_a_partition(glas: Dataset) -> None:
    assert offered(glas) == {
        "official": ([5, 10, 20, 50, 100], 3), "patients": ([5, 10, 20, 50, 100], 3), "published": ([10, 20, 100], 1)}
    made = everything(glas)
    assert len({split.fingerprint for split in made}) > 25
    for split in made:
        learned = set(split.labelled) | set(split.unlabelled)
        assert not set(split.labelled) & set(split.unlabelled)
        assert not learned & set(split.test) and not set(split.validation) & set(split.test)
        assert not set(split.labelled) & set(split.validation), "validation images are never labelled ones"
        assert len(learned | set(split.validation)) + len(split.test) == 165
        if split.name == "published":
            assert not set(split.unlabelled) & set(split.validation)
        else:
            assert set(split.validation) <= set(split.unlabelled)
            assert bool(split.validation) == (split.ratio <= 20)


def test_lists_are_nested_and_stratified(glas: Dataset) -> None:
    grade = grades(glas)
    for fold in range(3):
        lists = [load_split(glas, "official", ratio, fold).labelled for ratio in (5, 10, 20, 50, 100)]
        assert [len(part) for part in lists] == [4, 9, 17, 43, 85]
        assert all(set(small) < set(large) for small, large in pairwise(lists))
        assert Counter(map(grade.get, lists[1])) == {"benign": 4, "malignant": 5}
        assert Counter(map(grade.get, lists[2])) == {"benign": 7, "malignant": 10}
        validation = load_split(glas, "official", 20, fold).validation
        assert Counter(map(grade.get, validation)) == {"benign": 7, "malignant": 10}
        assert validation == load_split(glas, "official", 5, fold).validation


def test_patients_are_kept_apart_and_folds_balanced(glas: Dataset) -> None:
    prepared = pretend(glas)
    patient = dict(zip(prepared.ids, prepared.groups["patient"], strict=True))
    folds = [load_split(glas, "patients", 20, fold) for fold in range(3)]
    assert sorted(name for split in folds for name in split.test) == sorted(prepared.ids), "each is tested once"
    for split in folds:
        assert not set(map(patient.get, split.test)) & set(map(patient.get, split.labelled + split.unlabelled))
        assert abs(len(split.test) - 55) <= 4
        assert len(set(map(patient.get, split.test))) >= 4


def test_published_numbers(glas: Dataset) -> None:
    ten, twenty = (load_split(glas, "published", ratio, 0) for ratio in (10, 20))
    assert ten.labelled == tuple(f"train_{number}" for number in (4, 17, 23, 28, 60, 74, 85))
    assert [len(part) for part in (ten.unlabelled, twenty.unlabelled, ten.validation)] == [66, 59, 12]
    assert set(ten.labelled) < set(twenty.labelled) and len(twenty.labelled) == 14


def test_largest_remainder() -> None:
    assert apportion(9, {"benign": 37, "malignant": 48}) == {"benign": 4, "malignant": 5}
    assert apportion(10, {"a": 6, "b": 6, "c": 2}) == {"a": 4, "b": 4, "c": 2}  # quotas 4.29, 4.29, 1.43
    sizes = {"a": 6, "b": 6, "c": 2}
    assert apportion(11, sizes, least=apportion(10, sizes))["c"] == 2, "a larger list never takes a seat away"
    assert apportion(3, {"a": 1, "b": 9}) == {"a": 0, "b": 3}
    assert [percent(ratio, 85) for ratio in (5, 10, 20, 50)] == [4, 9, 17, 43]
    assert percent(5, 3) == 1


def test_order_does_not_depend_on_the_machine(glas: Dataset) -> None:
    assert shuffled(["a", "b", "c", "d", "e"], "key") == shuffled(["e", "c", "a", "d", "b"], "key")
    assert shuffled(["a", "b", "c", "d", "e"], "key") == ["d", "a", "e", "c", "b"]  # as sha256sum sorts
    images = [ImageInfo(str(number), "train", "x", str(number // 4)) for number in range(24)]
    assert Counter(Counter(assign_patients_to_folds(images, 3, "k").values()).values()) == {2: 3}
    assert make_all(pretend(glas)) == make_all(pretend(glas))


def test_files_and_data_are_compared(glas: Dataset) -> None:
    assert compare(pretend(glas)) == (True, [f"glas/{name}: the same lists" for name in
                                                 ("official", "patients", "published")])
    fine, lines = compare(pretend(glas, fingerprint="other"))
    assert fine and all(line.endswith("made from other pixels") for line in lines)
    split = load_split(glas, "official", 20, 1)
    assert check_split_matches_data(split, pretend(glas)) == []
    assert "may differ" in check_split_matches_data(split, pretend(glas, fingerprint="other"))[0]
    with pytest.raises(UserError, match="testA_80"):
        check_split_matches_data(split, pretend(glas, test=79))
    (glas.splits_folder / "patients.json").unlink()
    fine, lines = compare(pretend(glas, test=79))
    assert not fine and "DIFFERENT" in lines[0] and "missing" in lines[1]


def test_any_ratio_lies_between_the_committed_lists(glas: Dataset) -> None:
    """Every whole percentage is nested in the next, and those of the file are as they were."""
    for name, fold in (("official", 0), ("official", 7), ("patients", 2)):
        lists = [load_split(glas, name, ratio, fold) for ratio in range(1, 101)]
        assert all(set(small.labelled) <= set(large.labelled) for small, large in pairwise(lists))
        total = len(lists[-1].labelled)
        assert [len(part.labelled) for part in lists] == [percent(ratio, total) for ratio in range(1, 101)]
        assert not any(set(part.labelled) & set(part.validation) for part in lists)
        assert lists[14].fingerprint == load_split(glas, name, 15, fold).fingerprint
    written = json.loads((glas.splits_folder / "official.json").read_text())["folds"][0]["labelled"]
    content = json.loads((glas.splits_folder / "official.json").read_text())
    order = FoldOrder(content["folds"][0]["train"], content["strata"], "glas/official/0")
    assert {ratio: order.labelled(int(ratio)) for ratio in written} == written


def test_any_number_of_draws_and_of_folds(glas: Dataset) -> None:
    draws = [load_split(glas, "official", 20, fold) for fold in range(5)]
    assert len({split.labelled for split in draws}) == 5 and len({split.test for split in draws}) == 1
    assert Counter(map(grades(glas).get, draws[4].labelled)) == {"benign": 7, "malignant": 10}
    assert len(draws[4].validation) == 17 and draws[4] == load_split(glas, "official", 20, 4)
    before = (glas.splits_folder / "patients.json").read_bytes()
    write(pretend(glas), 5)
    assert (glas.splits_folder / "patients.json").read_bytes() == before
    folds = [load_split(glas, "patients_5", 15, fold) for fold in range(5)]
    assert sorted(name for split in folds for name in split.test) == sorted(pretend(glas).ids)
    assert compare(pretend(glas))[0] and "patients_5" in split_names(glas)


@pytest.mark.parametrize(
    ("split", "ratio", "fold", "words"),
    [("official", 0, 0, "whole percentage"), ("patients", 20, 3, "it has 0, 1, 2"),
     ("official", 20, -1, "it has 0, 1, 2"), ("published", 5, 0, "10, 20, 100"),
     ("oficial", 20, 0, "Did you mean 'official'? It has official, patients, published"),
     ("../splits/official", 20, 0, "no split")],
)
def test_what_does_not_exist(glas: Dataset, split: str, ratio: int, fold: int, words: str) -> None:
    with refused(words):
        load_split(glas, split, ratio, fold)


def test_edited_files_are_refused(glas: Dataset) -> None:
    path = glas.splits_folder / "official.json"
    content = json.loads(path.read_text())
    labelled = content["folds"][0]["labelled"]["10"]
    labelled[0] = next(name for name in content["folds"][0]["train"] if name not in labelled)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="edited"):
        load_split(glas, "official", 10, 0)
    for broken in ("{", "[]", "{}"):
        path.write_text(broken)
        with pytest.raises(UserError, match="not a split file"):
            load_split(glas, "official", 10, 0)


def test_own_list(glas: Dataset, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    held = load_split(glas, "official", 10, 0).validation
    own.write_text(f"# mine\r\n{held[0]}\r\n\r\n  train_7  # good one\r\ntrain_3\r\n")
    split = load_split(glas, "official", None, 0, labelled_file=own)
    assert set(split.labelled) == {held[0], "train_7", "train_3"} and split.labelled[0] != "# mine"
    assert split.validation == held[1:] and len(split.unlabelled) == 82 and split.ratio == 4
    name, _, mark = split.name.partition("+")
    assert name == "official" and len(mark) == 8 and check_split_matches_data(split, pretend(glas)) == []
    own.write_text(f"train_3\ntrain_7\n{held[0]}")
    assert load_split(glas, "official", None, 0, labelled_file=own) == split, "order does not matter"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"train_1\ntrain_99\n", "line 2: 'train_99' is no training image"), (b"train_1\ntrain_1", "listed twice"),
     (b"testA_1", "test image"), (b"# none\n", "empty"), (b"\xff\xfe\x00", "not a text file"),
     (None, "cannot be read")],
)
def test_bad_own_list(glas: Dataset, tmp_path: Path, content: bytes | None, words: str) -> None:
    own = tmp_path / "own.txt"
    if content is not None:
        own.write_bytes(content)
    with refused(words, str(own)):
        load_split(glas, "official", 20, 0, labelled_file=own)


@pytest.mark.parametrize("name", sorted(path.name for path in (CONFIGS / "splits").glob("*")))
def test_committed_files(name: str) -> None:
    """Needs no data: the committed files are sound and keep what DESIGN promises."""
    dataset = load_dataset(name)
    offers = offered(dataset)
    for split_name, (ratios, folds) in offers.items():
        for ratio in ratios:
            for fold in range(folds):
                split = load_split(dataset, split_name, ratio, fold)
                assert split.test and split.labelled and not set(split.labelled) & {*split.test, *split.validation}
    if name == "glas":
        counts = {ratio: load_split(dataset, "official", ratio, 0) for ratio in offers["official"][0]}
        assert [len(split.labelled) for split in counts.values()] == [4, 9, 17, 43, 85]
        assert (len(counts[10].unlabelled), len(counts[20].unlabelled), len(counts[20].validation)) == (76, 68, 17)
        assert sorted(len(load_split(dataset, "patients", 20, fold).test) for fold in range(3)) == [54, 55, 56]
