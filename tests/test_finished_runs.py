"""What a finished run is good for: `predict`, `evaluate`, `export` and `verify`, each against the run itself."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from benchmark.data.load import load_prepared
from benchmark.models.load import load as load_run
from benchmark.runs.folder import load_masks
from tests.conftest import invoke, one_line_error, tiny_settings
from tests.own_folder import write_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Results folder and record of one short run."""
    results = tmp_path_factory.mktemp("results")
    result = invoke(
        "run", "--method", "mean_teacher", "--dataset", "synthetic", "--preset", "demo", "--results", results, "--json",
        *tiny_settings(),
    )
    assert result.returncode == 0, result.stderr
    return results, json.loads(result.stdout)


@pytest.fixture
def images(tmp_path):
    """Two images of the test set at their native size, one of them with blanks and an accent in its name."""
    prepared, folder = load_prepared("synthetic", 32), tmp_path / "images"
    folder.mkdir()
    names = prepared.ids[:2]
    for name, called in zip(names, ("plain", "mit Ä und Blank"), strict=True):
        pixels = np.asarray(prepared.images[prepared.position(name)])
        Image.fromarray(pixels).resize((50, 40)).save(folder / f"{called}.png")
    return folder


def logits_of(run, path):
    """The run's own logits at native size [C, H, W] of one image file, by the rules of its evaluation."""
    image = Image.open(path)
    small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.model.mean, run.model.std))
    with torch.inference_mode():
        (found,) = run.method.predict((torch.from_numpy(small.copy())[None] / 255 - mean) / std).values()
    return functional.interpolate(found, size=(image.height, image.width), mode="bilinear", align_corners=False)[0]


def test_a_run_is_found_by_its_name_and_its_weights_are_checked(finished, tmp_path):
    results, record = finished
    for name in (record["run_id"], record["run_id"][:20], results / "records" / f"{record['run_id']}.json"):
        assert load_run(str(name), results).record == record
    line = one_line_error(invoke("export", record["run_id"].replace("mean", "maen"), "--results", results))
    assert "no finished run" in line and "Did you mean" in line
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    weights = copy / "runs" / record["run_id"] / "weights.pt"
    state = torch.load(weights, weights_only=True)
    next(iter(state.values())).add_(1)
    torch.save(state, weights)
    assert "not the weights of this run" in one_line_error(invoke("export", record["run_id"], "--results", copy))
    weights.unlink()
    assert "python -m benchmark run --method mean_teacher" in one_line_error(
        invoke("export", record["run_id"], "--results", copy))


def test_predict_writes_the_argmax_of_the_run_at_native_size(finished, images, tmp_path):
    results, record = finished
    line = ["predict", record["run_id"], images, "--results", results, "--output", tmp_path / "out"]
    result = invoke(*line)
    assert result.returncode == 0, result.stderr
    run = load_run(record["run_id"], results)
    for path in images.iterdir():
        (mask,) = [found for found in (tmp_path / "out").rglob(f"{path.stem}.png") if "overlay" not in str(found)]
        predicted = np.asarray(Image.open(mask))
        wanted = logits_of(run, path).argmax(0).numpy()
        assert predicted.shape == wanted.shape == (40, 50)
        assert (predicted == wanted).mean() > 0.999
    assert "there already" in one_line_error(invoke(*line))
    assert invoke(*line, "--overwrite").returncode == 0


def test_predict_goes_on_after_an_image_that_cannot_be_read(finished, images, tmp_path):
    results, record = finished
    (images / "broken.png").write_bytes(b"no image")
    result = invoke("predict", record["run_id"], images, "--results", results, "--output", tmp_path / "out")
    assert result.returncode == 1 and "broken.png" in result.stderr and "Traceback" not in result.stderr
    assert list((tmp_path / "out").rglob("plain.png"))


def test_what_cannot_be_meant_is_one_line(finished, images, tmp_path):
    """Wrong places, other classes, no splits: said before anything is prepared or written."""
    results, record = finished
    own, run, file = tmp_path / "own", record["run_id"], tmp_path / "file"
    (own / "images").mkdir(parents=True)
    file.write_text("no folder")

    def line(verb, *arguments, code=2):
        return one_line_error(invoke(verb, run, *arguments, "--results", results), code)

    assert f"is {own / 'images'} meant?" in line("predict", own)
    assert f"{file}: a file stands where a folder is needed" in line("predict", images, "--output", file)
    assert f"{file}: a file stands where a folder is needed" in line("export", "--output", file)
    assert "is the folder of the run itself" in line("export", "--output", results / "runs" / run, "--overwrite")
    assert (results / "runs" / run / "weights.pt").is_file()
    assert "seen whole" in line("predict", images, "--overlap", "4")
    write_folder(tmp_path / "own2", images=4, bare=0, classes=2)
    settings = tmp_path / "own2" / "dataset.yaml"
    settings.write_text("classes: {background: 0, nucleus: 1}\n")
    assert "only a data set of the same classes" in line("evaluate", "--dataset", settings.parent)
    settings.write_text("classes: {background: 0, gland: 1}\n")
    assert "own2 has no splits" in line("evaluate", "--dataset", settings.parent)
    assert "unknown dataset 'nowhere'" in line("evaluate", "--dataset", "nowhere")


def test_an_image_that_is_named_twice_is_predicted_once(finished, images, tmp_path):
    results, record = finished
    result = invoke("predict", record["run_id"], images, images / ".." / "images" / "plain.png", "--results", results,
                    "--output", tmp_path / "out")
    assert result.returncode == 0 and "2 of 2 images" in result.stderr, result.stderr


@pytest.mark.parametrize(("file", "content"), [
    ("weights.pt", "no weights"), ("model.json", '{"mean": [0.5]}'), ("model.json", '{"classes": 2}'),
    ("model.json", "[]"), ("record", '{"spec": {}}'), ("record", '{"cost": {}}'),
])
def test_what_was_damaged_is_one_line(finished, tmp_path, file, content):
    results, record = finished
    shutil.copytree(results, tmp_path / "results")
    run = tmp_path / "results" / "runs" / record["run_id"]
    path = tmp_path / "results" / "records" / f"{run.name}.json" if file == "record" else run / file
    if content == '{"spec": {}}':
        (run / "model.json").unlink()  # else nobody asks the record
    if path.suffix == ".json" and content != "[]":
        content = json.dumps(json.loads(path.read_text()) | json.loads(content))
    path.write_text(content)
    assert "damaged" in one_line_error(
        invoke("export", run.name, "--results", tmp_path / "results", "--format", "weights"))


def test_windows_of_a_large_image_blend_to_its_size(finished, tmp_path):
    results, record = finished
    large = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    result = invoke("predict", record["run_id"], tmp_path / "large.png", "--tile", "40", "--overlap", "10", "--results",
                    results, "--output", tmp_path / "out", "--no-overlay")
    assert result.returncode == 0, result.stderr
    (mask,) = (tmp_path / "out").rglob("large.png")
    assert Image.open(mask).size == (100, 70)


def test_evaluating_a_run_on_its_own_test_images_gives_its_record_s_scores(finished):
    results, record = finished
    result = invoke("evaluate", record["run_id"], "--results", results, "--json")
    assert result.returncode == 0, result.stderr
    found = json.dumps(json.loads(result.stdout))
    assert json.dumps(record["scores"]["strict"]["dice"]) in found
    before = (results / "records" / f"{record['run_id']}.json").read_bytes()
    assert invoke("evaluate", record["run_id"], "--results", results, "--objects", "--json").returncode == 0
    assert (results / "records" / f"{record['run_id']}.json").read_bytes() == before


def test_an_export_gives_the_logits_of_the_run(finished, images, tmp_path):
    results, record = finished
    result = invoke("export", record["run_id"], "--results", results, "--output", tmp_path / "model")
    assert result.returncode == 0, result.stderr
    run, exported = load_run(record["run_id"], results), load_run(str(tmp_path / "model"), results)
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (ours,), (theirs,) = run.method.predict(image).values(), exported.method.predict(image).values()
    assert torch.equal(ours, theirs)
    program = torch.export.load(tmp_path / "model" / "model.pt2").module()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.model.mean, run.model.std))
    torch.testing.assert_close(program(image * std + mean), ours, rtol=1e-3, atol=1e-3)
    text = (tmp_path / "model" / "MODEL.md").read_text()
    assert record["run_id"] in text and f"{100 * record['scores']['strict']['dice']:.2f}" in text
    assert "there already" in one_line_error(
        invoke("export", record["run_id"], "--results", results, "--output", tmp_path / "model"))


def test_verify_finds_a_record_equal_and_a_changed_one_not(finished, tmp_path):
    results, record = finished
    result = invoke("verify", record["run_id"], "--results", results, "--json")
    assert result.returncode == 0, result.stderr + result.stdout
    copy = tmp_path / "results"
    shutil.copytree(results / "records", copy / "records")
    path = copy / "records" / f"{record['run_id']}.json"
    path.write_text(json.dumps(record | {"weights_sha256": "0" * 64}))
    result = invoke("verify", record["run_id"], "--results", copy)
    assert result.returncode == 4 and "weights: other weights" in result.stdout and "counts: equal" in result.stdout


def test_masks_of_a_run_are_those_that_it_was_scored_by(finished):
    results, record = finished
    masks = load_masks(results / "runs" / record["run_id"] / "masks.npz")
    assert len(masks) == record["data"]["test"] and all(mask.dtype == bool for mask in masks.values())
