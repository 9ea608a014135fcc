"""Finished runs on a folder of one's own: tiles, grey images of 16 bits, splits and licence, in every verb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from benchmark.data.load import load_prepared
from benchmark.models.load import load as load_run
from tests.conftest import ROOT, invoke, one_line_error, tiny_settings
from tests.own_folder import picture, write_folder

pytestmark = pytest.mark.slow

YAML = """classes: {background: 0, disk: 255}
ignore: 128
groups: groups.csv
range: [3000, 41250]
tile: {size: 24, overlap: 4}
licence: CC BY 4.0, by ourselves.
"""


def deep_folder(folder: Path, first: int = 0) -> Path:
    """Twelve images of 52 x 40 px in 16 bits, two without a mask, and their splits; `first` tells folders apart."""
    write_folder(folder, images=12, bare=2, classes=2, values=(0, 255))
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        grey = picture(first + number, 2)[0][..., 0].astype(np.uint16)
        Image.fromarray(grey * 150 + 3000).save(path)
    (folder / "dataset.yaml").write_text(YAML)
    assert invoke("data", "split", folder, "--write").returncode == 0
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return deep_folder(tmp_path_factory.mktemp("folder") / "deep")


@pytest.fixture(scope="module")
def finished(own):
    """Results folder and record of one short run, with a labelled list of the user's own."""
    results, ids = own.parent / "results", load_prepared(str(own), 32).ids
    split = json.loads((own / "splits" / "folds.json").read_text())["folds"][0]
    mine = [name for name in ids if name in split["train"] and name not in split.get("unmasked", ())][:3]
    (own.parent / "three.txt").write_text("\n".join(mine))
    result = invoke(
        "run", "--method", "mean_teacher", "--dataset", own, "--preset", "demo", "--labelled", own.parent / "three.txt",
        "--results", results, "--json", *tiny_settings(),
    )
    assert result.returncode == 0, result.stderr
    return results, json.loads(result.stdout)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Images that the run has not seen; of the first, nothing is known in the first tile."""
    folder = deep_folder(tmp_path_factory.mktemp("folder") / "other", first=50)
    first = folder / "masks" / "A_0.png"
    mask = np.array(Image.open(first))
    mask[:24, :24] = 128
    Image.fromarray(mask).save(first)
    return folder


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    results, record = finished
    folder = tmp_path_factory.mktemp("export") / "model"
    result = invoke("export", record["run_id"], "--results", results, "--output", folder, "--format", "weights")
    assert result.returncode == 0, result.stderr
    return folder


def test_a_model_knows_how_images_were_cut_and_read(finished):
    results, record = finished
    model = load_run(record["run_id"], results).model
    assert model.tile == (24, 4) and model.native_size == (24, 24)
    assert model.decoding.range == (3000, 41250) and not model.decoding.grey
    assert model.counts[0] == 3 * 6 and model.counts[2] == 12 * 6, "the method was told tiles"


def test_predict_sees_windows_at_the_scale_of_the_tiles_and_reads_as_training_did(finished, own, tmp_path):
    results, record = finished
    image = own / "images" / "A_0.png"
    line = ["predict", record["run_id"], image, "--results", results, "--no-overlay", "--output", tmp_path / "one"]
    result = invoke(*line, "--overlap", "0")
    assert result.returncode == 0, result.stderr
    assert "tiles of 24 x 24 pixels" in result.stderr
    found = np.asarray(Image.open(tmp_path / "one" / "masks" / "A_0.png"))
    prepared, run = load_prepared(str(own), 32), load_run(record["run_id"], results)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.model.mean, run.model.std))
    row = prepared.rows("A_0")[0]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(prepared.images[row : row + 1])).permute(0, 3, 1, 2) / 255
        (logits,) = run.method.predict((pixels - mean) / std).values()
    wanted = functional.interpolate(logits, size=(24, 24), mode="bilinear", align_corners=False)[0].argmax(0).numpy()
    assert (found[:16, :14] == wanted[:16, :14]).mean() > 0.99, "no other window reaches there: the first tile decides"
    whole = invoke(*line[:-1], tmp_path / "whole", "--tile", "whole")
    assert whole.returncode == 0 and "--tile auto" in whole.stderr, "it is told that this is another scale"
    assert (np.asarray(Image.open(tmp_path / "whole" / "masks" / "A_0.png")) != found).any()


def test_an_export_reads_and_cuts_as_its_run_does(finished, exported, own, tmp_path):
    results, record = finished
    for name, run in (("run", record["run_id"]), ("export", exported)):
        result = invoke("predict", run, own / "images" / "B_1.png", "--results", results, "--output", tmp_path / name,
                        "--json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["windows"] == {"height": 24, "width": 24, "overlap": 6}
    one, two = (Image.open(tmp_path / name / "masks" / "B_1.png") for name in ("run", "export"))
    assert np.array_equal(np.asarray(one), np.asarray(two))
    older = shutil.copytree(exported, tmp_path / "older")
    (older / "model.json").write_text(json.dumps(json.loads((older / "model.json").read_text()) | {"schema": 1}))
    assert "export the run anew" in one_line_error(invoke("predict", older, own / "images", "--results", results))


def test_colours_are_made_grey_for_a_run_that_was_trained_so(tmp_path):
    from benchmark.data.folder_dataset import FolderDataset
    from benchmark.data.images import PixelDecoding

    folder = write_folder(tmp_path / "colour", images=2, bare=1, classes=2)
    (folder / "dataset.yaml").write_text("classes: {background: 0, disk: 1}\npixels: grey\n")
    dataset = FolderDataset(folder)
    (item, _) = dataset.items(folder)
    assert dataset.decoding == PixelDecoding(grey=True)
    pixels = dataset.decoding.read(item.image, "")
    assert np.array_equal(dataset.read_image(item), pixels) and (pixels == pixels[..., :1]).all()


def test_an_image_of_sixteen_bits_is_refused_where_no_range_was_given(tmp_path):
    from benchmark.data.images import PixelDecoding
    from benchmark.errors import UserError

    Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: 16 bits a pixel; save it otherwise"):
        PixelDecoding().read(tmp_path / "deep.png", "save it otherwise")


def test_evaluate_chooses_the_split_as_run_does(finished, own, other):
    results, record = finished
    for dataset in (own, own / "dataset.yaml"):  # its own, by another name
        result = invoke("evaluate", record["run_id"], "--results", results, "--dataset", dataset, "--json")
        assert result.returncode == 0, result.stderr
        content = json.loads(result.stdout)
        assert content["scores"]["strict"]["dice"] == record["scores"]["strict"]["dice"]
    result = invoke("evaluate", record["run_id"], "--results", results, "--dataset", other, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["split"] == "folds"


def test_evaluate_asks_all_tiles_of_an_image_what_is_known(finished, other):
    results, record = finished
    result = invoke("evaluate", record["run_id"], "--results", results, "--dataset", other, "--sets", "all", "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["left_out"] == {"trained_on": [], "without_mask": ["A_10", "B_11"]}
    assert len(content["images"]) == content["scores"]["strict"]["n"] == 10 and "A_0" in content["images"]


def test_evaluate_tells_another_scale(finished, other, tmp_path):
    results, record = finished
    folder = tmp_path / "whole"
    shutil.copytree(other, folder)
    (folder / "dataset.yaml").write_text(YAML.replace("tile", "# tile"))
    result = invoke("evaluate", record["run_id"], "--results", results, "--dataset", folder, "--sets", "all")
    assert result.returncode == 0, result.stderr
    assert "52 x 40 pixels here (median), 24 x 24 there; tile: {size: 24, overlap: 4}" in result.stderr


def test_the_card_says_licence_tiles_and_grey_values_and_no_place(exported, own):
    text = (exported / "MODEL.md").read_text()
    assert "Licence of the data: CC BY 4.0, by ourselves." in text
    assert "cut into tiles of 24 pixels" in text and "3000 became black and 41250 white" in text
    assert "3 labelled and" in text, "images, not tiles"
    assert text.startswith("# mean_teacher on deep\n")


def test_verify_makes_the_record_s_own_run_whatever_its_command_says(finished, own, tmp_path):
    results, record = finished
    path = tmp_path / "records" / f"{record['run_id']}.json"
    shutil.copytree(results / "records", path.parent)
    wrong = record["command"].replace("--seed 0", "--seed 5")
    said = {wrong: "seed was 0, the command now gives 5",
            wrong.replace("three.txt", "four.txt"): "the record's command does not work any more: --labelled"}
    for command, difference in said.items():
        path.write_text(json.dumps(record | {"command": command}))
        result = invoke("verify", path)
        assert result.returncode == 4, result.stderr
        assert f"specification: {difference}" in result.stdout
        for aspect in ("data", "counts", "scores", "weights"):
            assert f"  {aspect}: equal" in result.stdout, result.stdout
    shutil.move(own.parent / "three.txt", tmp_path / "gone.txt")
    older = {key: value for key, value in record["data"].items() if key != "labelled_ids"}
    path.write_text(json.dumps(record | {"data": older}))  # as records were before
    assert "three.txt: the labelled list of" in one_line_error(invoke("verify", path))
    (own.parent / "three.txt").write_text((tmp_path / "gone.txt").read_text().splitlines()[0])
    assert "not the list that" in one_line_error(invoke("verify", path))


def test_a_command_that_is_no_command_is_a_difference(finished, tmp_path):
    from benchmark.cli.verify import requested
    from benchmark.runs.verify import specification

    record = finished[1]
    for command in ("", "python -m benchmark run --method 'x", "python -m benchmark run --help"):
        difference = specification(record, lambda command=command: requested(command), "cpu")
        assert difference is not None and "does not work any more" in difference


def test_pictures_and_weights_of_users_are_not_committed():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/results/predictions/", "/results/exports/", "/results/runs/"} <= set(ignored)
