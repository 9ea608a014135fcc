"""Unlabelled images from elsewhere: what a run learns from, what its record says, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.images import PLAIN, PixelDecoding
from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.pools import join, load_pool
from benchmark.data.splits import load_split
from benchmark.data.store import Rows
from benchmark.errors import Interrupted, UserError
from benchmark.runs.request import Request, specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import load_masks, staleness
from tests.conftest import TINY, invoke, one_line_error, read_records, tiny_settings
from tests.own_folder import picture, write_folder, write_table

FOUR = TINY | {"train.steps": 4, "evaluate.times": 1}
SETTINGS = tiny_settings(train__steps=4, evaluate__times=1)
RUN = ("run", "--dataset", "synthetic", "--preset", "demo", "--ratio", "10", *SETTINGS)
YAML = "classes: [background, gland]\ngroups: groups.csv\ndomain: H&E, disks\nmicrons_per_pixel: 0.5\n"


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A folder of five images."""
    (tmp_path / "tiles" / "slide_1").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(picture(number)[0]).save(tmp_path / "tiles" / "slide_1" / f"{number}.png")
    return tmp_path / "tiles"


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A data set of one's own of two classes, with masks, patients and lists."""
    folder = write_folder(tmp_path / "disks", bare=0, classes=2)
    (folder / "dataset.yaml").write_text(YAML)
    assert invoke("data", "split", folder, "--write", "--size", "32").returncode == 0
    return folder


def test_rows_are_those_of_the_arrays() -> None:
    one, two = np.arange(24).reshape(6, 2, 2), -np.arange(20).reshape(5, 2, 2)
    rows, whole = Rows((one, [0, 2, 5]), (two, [4, 1])), np.concatenate([one[[0, 2, 5]], two[[4, 1]]])
    assert rows.shape == whole.shape and rows.size == whole.size and len(rows) == 5 and rows.dtype == whole.dtype
    for wanted in (3, slice(None), slice(0), [4, 0, 0], range(2, 4), np.array([1, 3])):
        assert np.array_equal(rows[wanted], whole[wanted])


def test_a_data_set_gives_its_training_images_of_the_fold_and_own_images_may_be_left_out(disks: Path) -> None:
    own, split = load_prepared("synthetic", 32), load_split(load_dataset("synthetic"), "official", 10, 1)
    pool, lists = load_pool(str(disks)), load_split(load_dataset(str(disks)), "folds", 100, 1)
    for keep in (True, False):
        data, joined = join(own, split, [(pool, lists)], own=keep)
        assert joined.unlabelled == (split.unlabelled if keep else ()) and joined.labelled == split.labelled
        assert joined.pool == tuple(f"disks:{name}" for name in lists.labelled) and 0 < len(joined.pool) < 20
    assert joined.fingerprint == split.fingerprint and data.fingerprint == own.fingerprint
    prepared = load_prepared(pool, 32)
    for name in (joined.pool[0], joined.pool[-1]):
        (row,), there = data.rows(name), prepared.rows(name.removeprefix("disks:"))[0]
        assert np.array_equal(data.images[row], prepared.images[there]) and (data.masks[row] == 255).all()
        assert data.native_sizes[data.position(name)] == (40, 52)
    assert np.array_equal(data.images[: len(own.ids)], own.images)


def trained(results: Path, method: str, unlabelled: object, *more: object) -> dict:
    result = invoke(*RUN, "--method", method, "--unlabelled", unlabelled, "--results", results, "--json", *more)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_masks_of_a_pool_change_no_weight_and_may_be_missing(disks: Path, tmp_path: Path) -> None:
    first = trained(tmp_path / "1", "mean_teacher", disks)
    for number, path in enumerate(sorted((disks / "masks").iterdir())):
        noise = np.random.default_rng(number).integers(0, 2, (40, 52), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    scrambled = trained(tmp_path / "2", "mean_teacher", disks)
    for path in list((disks / "masks").iterdir())[1:]:
        path.unlink()
    again = trained(tmp_path / "3", "mean_teacher", disks)
    assert first["weights_sha256"] == scrambled["weights_sha256"] == again["weights_sha256"]
    assert first["data"] == scrambled["data"] == again["data"]
    names = sorted((disks / "images").iterdir())
    shutil.copy(names[0], names[1])  # but its images do
    stale = invoke(*RUN, "--method", "mean_teacher", "--unlabelled", disks, "--results", tmp_path / "3")
    assert "made from other images or masks of disks" in one_line_error(stale)


@pytest.mark.slow
def test_images_of_a_pool_are_learned_from_and_the_record_says_which(tiles: Path, disks: Path, tmp_path: Path) -> None:
    own = trained(tmp_path, "mean_teacher", "own")
    both = trained(tmp_path, "mean_teacher", f"{tiles},own,{disks}")
    assert len({own["weights_sha256"], both["weights_sha256"]}) == 2 and "sources" not in own["data"]
    first, *pools = both["data"]["sources"]
    assert [first[key] for key in ("dataset", "labelled", "unlabelled")] == ["synthetic", 6, 54]
    known = {pool["dataset"]: pool for pool in pools}
    assert {*known} == {"disks", "tiles"}
    assert known["tiles"]["unlabelled"] == 5 and known["tiles"]["native_size"] == [40, 52]
    assert known["disks"]["microns_per_pixel"] == 0.5 and known["disks"]["domain"] == "H&E, disks"
    split = load_split(load_dataset("synthetic"), "official", 10, 0)
    lists = {"": split.fingerprint, "pool disks": load_split(load_dataset(str(disks)), "folds", 100, 0).fingerprint}
    assert staleness(both, both["numerics"], lists, {}) is None
    told = staleness(both, both["numerics"], lists | {"pool disks": "0" * 64}, {})
    assert told is not None and "made from other lists of disks" in told
    assert both["data"]["unlabelled"] == 54 + sum(pool["unlabelled"] for pool in pools)
    model = json.loads((tmp_path / "runs" / both["run_id"] / "model.json").read_text())
    assert len(model["trained_on"]) == 60 + sum(pool["unlabelled"] for pool in pools)
    assert model["native_size"] == [192, 256]


def test_a_pool_is_part_of_the_identity_by_its_name_and_where_it_lies_is_not(tiles: Path, tmp_path: Path) -> None:
    def run_id(unlabelled: object) -> str:
        overrides = TINY | ({"data.unlabelled": str(unlabelled)} if unlabelled else {})
        return specify(Request("mean_teacher", "synthetic", preset="demo", overrides=overrides), "cpu").spec.run_id

    moved = shutil.copytree(tiles, tmp_path / "elsewhere" / "tiles")
    assert run_id("own") == run_id(None) != run_id(tiles) == run_id(moved)
    assert run_id(f"own,{tiles}") == run_id(f"{tiles},own") not in (run_id(tiles), run_id("own"))
    before, after = (shutil.copytree(tiles, tmp_path / name / "more") for name in ("a", "z"))
    assert run_id(f"{moved},{before}") == run_id(f"{moved},{after}"), "the order of paths is not that of names"


@pytest.mark.slow
def test_streamed_resumed_and_repeated_runs_have_the_same_weights(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = trained(tmp_path / "1", "fixmatch", f"own,{tiles}")
    settings = {**FOUR, "data.unlabelled": f"own,{tiles}"}
    request = Request("fixmatch", "synthetic", ratio=10, preset="demo", overrides=settings)
    answers = iter([False, True, True])
    options = RunOptions(tmp_path / "3", checkpoint_seconds=0)
    with pytest.raises(Interrupted, match="after step 2 of 4"):
        run_or_load(request, options, asked_to_stop=lambda: next(answers))
    assert run_or_load(request, options)[0]["weights_sha256"] == whole["weights_sha256"]
    monkeypatch.setenv("SEMIHISTO_RESIDENT", "0")
    streamed = trained(tmp_path / "2", "fixmatch", f"own,{tiles}")
    assert streamed["weights_sha256"] == whole["weights_sha256"]
    check = invoke("verify", tmp_path / "1" / "records" / f"{whole['run_id']}.json")
    assert check.returncode == 0 and "equal" in check.stdout, check.stdout + check.stderr


def test_what_cannot_be_a_pool_is_refused_in_one_line(tiles: Path, disks: Path, tmp_path: Path) -> None:
    def refused(*unlabelled: object, more: tuple[str, ...] = ()) -> str:
        given = ",".join(map(str, unlabelled))
        command = (*RUN, "--method", "mean_teacher", "--unlabelled", given, "--results", tmp_path / "r", *more)
        return one_line_error(invoke(*command))

    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "Did you mean" in refused("glass")
    namesake = shutil.copytree(tiles, tmp_path / "other" / "tiles")
    for twice in (("own", "synthetic"), ("own", "own"), (tiles, tiles), (tiles, namesake)):
        assert f"'{Path(twice[1]).name}' is there twice, or is the name of --dataset" in refused(*twice)
    assert "data.unlabelled names nothing; `own` stands for" in refused("")
    assert "give one of them" in refused(tiles, more=("--set", "data.unlabelled=own"))
    assert "has no fold 9; it has 0, 1, 2" in one_line_error(
        invoke(*RUN, "--method", "mean_teacher", "--unlabelled", disks, "--fold", 9))
    one = tmp_path / "one"
    one.mkdir()
    (one / "slide.svs").write_bytes(b"a whole slide")
    assert f"{one}: no images in it (.png, .tif, .jpg or .bmp; cut slides into tiles first)" in refused(one)
    assert "slide.svs: is a file; a pool is a folder of images, or a data set" in refused(one / "slide.svs")
    shutil.copy(tiles / "slide_1" / "1.png", one)
    shutil.copytree(one, one / ".ipynb_checkpoints")  # passed over
    assert "has too few images (1); a pool needs 2 or more" in refused(one)
    (tiles / "9.png").write_bytes(b"\x89PNG and no more")
    assert "9.png: not an image" in refused(tiles)
    for name, mask in (("9.png", picture(3)[1] * 100), ("8.png", np.full((40, 52), 253, np.uint8))):
        Image.fromarray(mask).save(tiles / name)  # a tile of one colour may be there
        assert f"{tiles / '9.png'}: most of its neighbouring pixels are equal, as in a mask; take" in refused(tiles)
    dataset, split = load_dataset("synthetic"), load_split(load_dataset("synthetic"), "official", 10, 0)
    items = {item.id: item for item in dataset.items(Path())}
    for kind, names in (("test", split.test), ("validation", split.validation)):
        Image.fromarray(dataset.read_image(items[names[0]])).save(tiles / "9.png")
        assert f"test or validation images, pixel for pixel (9.png is {names[0]} of" in refused(tiles), kind
    (tiles / "9.png").unlink()
    told = invoke(*RUN, "--method", "supervised", "--unlabelled", tiles, "--results", tmp_path / "r")
    assert told.returncode == 0 and "skipped: supervised learns from no unlabelled images" in told.stdout


def test_a_pool_with_test_images_of_other_data_that_the_run_is_scored_on_is_refused(
    tiles: Path, disks: Path, tmp_path: Path,
) -> None:
    lists = load_split(load_dataset(str(disks)), "folds", 100, 0)
    command = (*RUN, "--method", "mean_teacher", "--unlabelled", tiles, "--set", f"evaluate.also={disks}")
    shutil.copy(disks / "images" / f"{lists.test[0]}.png", tiles / "9.png")
    told = one_line_error(invoke(*command, "--results", tmp_path / "r"))
    assert f"test or validation images, pixel for pixel (9.png is {lists.test[0]} of disks); take them out" in told
    own, split = load_prepared("synthetic", 32), load_split(load_dataset("synthetic"), "official", 10, 0)
    pools = [(load_pool(str(tiles)), split)]
    join(own, split, pools, own=True, scored=[(load_prepared(str(disks), 32), lists.test[1:])])
    with pytest.raises(UserError, match="of disks"):
        join(own, split, pools, own=True, scored=[(load_prepared(str(disks), 32), lists.test)])


def test_a_pool_is_read_as_the_own_images_are_or_refused(disks: Path, tmp_path: Path) -> None:
    """Else the pixels of a test image would differ from those of its copy in the pool."""
    grey = shutil.copytree(disks, tmp_path / "grey")
    (grey / "dataset.yaml").write_text(YAML + "pixels: grey\n")
    invoke("data", "split", grey, "--write", "--size", "32")
    for pool, words in ((grey / "images", "of its images are test or validation images, pixel for pixel"),
                        (disks, "grey reads its images in grey, and disks reads them in colour; say so by")):
        for setting in ("data.unlabelled", "evaluate.also")[: 1 + (pool is disks)]:
            command = (*RUN, "--method", "mean_teacher", "--dataset", grey, "--set", f"{setting}={pool}")
            assert words in one_line_error(invoke(*command, "--results", tmp_path / "r")), setting
    read = {decoding: load_prepared(load_pool(str(disks / "images"), decoding), 32).hashes
            for decoding in (PLAIN, PixelDecoding(grey=True), PLAIN)}
    assert read[PLAIN] != read[PixelDecoding(grey=True)]


def test_a_pool_at_another_scale_is_resized_like_all_images_with_a_warning(
    tiles: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    own, split = load_prepared("synthetic", 32), load_split(load_dataset("synthetic"), "official", 10, 0)
    join(own, split, [(load_pool(str(tiles)), split)], own=True)
    assert "its images have 52 x 40 px (median), those of synthetic 256 x 192" in caplog.text


def test_collections_without_masks_are_listed_and_are_pools_alone(tmp_path: Path) -> None:
    listed = {row["name"]: row["about"] for row in json.loads(invoke("list", "datasets", "--json").stdout)}
    reasons = {"tcga_coad": "no gland masks", "tcga_read": "no gland masks", "spider_colorectal": "no masks"}
    for name, why in reasons.items():
        assert "only for `--unlabelled`" in listed[name]
        error = one_line_error(invoke("run", "--method", "supervised", "--dataset", name))
        assert why in error and f"--unlabelled {name}" in error
        lost = one_line_error(invoke(*RUN, "--method", "mean_teacher", "--unlabelled", name, "--data", tmp_path))
        assert f"no images of {name} under {tmp_path}." in lost and ("portal.gdc" in lost or "Hugging Face" in lost)
    with pytest.raises(UserError, match="cannot be learned from with labels"):
        specify(Request("supervised", "synthetic", overrides={"evaluate.also": "tcga_coad"}), "cpu")
    for number in range(3):
        (tmp_path / "tcga_read" / f"TCGA-{number}").mkdir(parents=True)
        Image.fromarray(picture(number)[0]).save(tmp_path / "tcga_read" / f"TCGA-{number}" / "0.png")
    record = trained(tmp_path / "r", "mean_teacher", "tcga_read", "--data", tmp_path)
    assert record["data"]["sources"][1]["domain"].startswith("H&E, adenocarcinoma of the rectum")


@pytest.mark.slow
def test_a_run_scored_elsewhere_too_has_the_scores_that_evaluate_gives(disks: Path, tmp_path: Path) -> None:
    also = ("--set", f"evaluate.also={disks}")
    record = trained(tmp_path, "cps", disks, *also)
    there = record["elsewhere"]["disks"]
    command = ("evaluate", record["run_id"], "--dataset", disks, "--results", tmp_path, "--json")
    found = json.loads(invoke(*command).stdout)
    assert found["scores"] == there["scores"] and there["test"] == len(found["images"]) > 0
    assert all(found[key] == there[key] for key in ("split", "fold", "fingerprint", "left_out"))
    (_, counts), = read_records(tmp_path / "records")
    stored = np.load(tmp_path / "evaluations" / record["run_id"] / "disks-folds-f0.npz")
    assert np.array_equal(counts["disks:test_native"][:, :1], stored["test_native"])
    masks = load_masks(tmp_path / "runs" / record["run_id"] / "masks.npz")
    assert masks[f"disks:{found['images'][0]}"].shape == (40, 52)
    plain = trained(tmp_path, "cps", disks)
    assert plain["weights_sha256"] == record["weights_sha256"] and plain["scores"] == record["scores"]
    Image.fromarray(1 - np.asarray(Image.open(path := next((disks / "masks").iterdir())))).save(path)
    assert "masks of disks" in one_line_error(invoke(*RUN, "--method", "cps", "--unlabelled", disks, *also,
                                                     "--results", tmp_path))


def test_other_data_that_cannot_be_scored_is_refused_before_any_training(disks: Path, tmp_path: Path) -> None:
    def refused(*given: object, dataset: object = "synthetic") -> str:
        also = f"evaluate.also={','.join(map(str, given))}"
        command = ("--dataset", dataset, *RUN[3:5], *SETTINGS, "--ratio", "100", "--set", also, "--results", tmp_path)
        error = one_line_error(invoke("run", "--method", "supervised", *command))
        assert not list(tmp_path.glob("runs/*/checkpoint.pt"))
        return error

    for twice in (("synthetic",), (disks, disks)):
        assert f"'{Path(twice[-1]).name}' is there twice, or is the name of --dataset" in refused(*twice)
    three = write_folder(tmp_path / "three", bare=0)
    (three / "dataset.yaml").write_text(YAML.replace("background", "stroma"))
    assert "its classes are stroma, gland, those of synthetic background, gland; both need" in refused(three)
    for name, learned in (("one", "ABC"), ("two", "DE")):
        folder = write_folder(tmp_path / name, bare=0, classes=2)
        (folder / "dataset.yaml").write_text(YAML)
        write_table(folder, "set", lambda image, learned=learned: "train" if image[0] in learned else "test")
        assert invoke("data", "split", folder, "--write", "--size", "32").returncode == 0
    said = refused(tmp_path / "two", dataset=tmp_path / "one")
    assert "two: none of 12 images can be scored: the run was trained on 12" in said


@pytest.mark.slow
def test_a_report_has_tables_for_both_data_sets_and_says_domain_and_scale(disks: Path, tmp_path: Path) -> None:
    settings = {**FOUR, "evaluate.also": str(disks)}
    (tmp_path / "cross.yaml").write_text(json.dumps({
        "preset": "demo", "datasets": ["synthetic"], "ratios": [10], "draws": [0, 1], "set": settings,
        "reference": "supervised", "rows": {
            "bound": {"methods": ["supervised"]}, "{method}, disks": {
                "methods": ["mean_teacher", "fixmatch"], "set": {"data.unlabelled": f"own,{disks}"}}}}))
    place = ("--results", tmp_path / "r", "--device", "cpu")
    assert invoke("grid", tmp_path / "cross.yaml", "--slots", "1", *place).returncode == 0
    report = invoke("report", tmp_path / "cross.yaml", *place, "--format", "md,tex,csv,html")
    assert report.returncode == 0, report.stderr
    here, there = (tmp_path / "r" / "tables" / f"cross{name}.md" for name in ("", "-on-disks"))
    assert "## cross: synthetic, split official, preset demo; scored on disks" in there.read_text()
    for text in (here.read_text(), there.read_text()):
        assert "| Mean Teacher, disks |" in text and "| Supervised |" in text and "Careful" not in text
        scale = "disks (H&E, disks; median 52 x 40 px, 0.5 µm a pixel, 0.81 x 0.62 at 32 px)"
        assert scale in text.replace("&amp;", "&") and "microns per pixel not known" in text
    records = [r for r, _ in read_records(tmp_path / "r" / "records") if r["spec"]["method"] == "fixmatch"]
    scores = [record["elsewhere"]["disks"]["scores"]["strict"]["dice"] for record in records]
    (line,) = [x for x in there.read_text().splitlines() if x.startswith("| FixMatch, disks | ") and "±" in x][:1]
    assert f"{100 * np.mean(scores):.2f} ± {100 * np.std(scores, ddof=1):.2f} (n=2)" in line
    assert invoke("report", tmp_path / "cross.yaml", *place, "--check").returncode == 0
    trained(tmp_path / "r", "mean_teacher", "own")  # not scored elsewhere
    assert "; scored on disks" in invoke("report", *place[:2], "--format", "md").stdout
