"""Using trained models: `predict`, `evaluate`, `export` and `verify`, each against the run itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.cli.models import _table
from benchmark.data.load import load_dataset, load_prepared
from benchmark.models.load import load as load_run
from benchmark.runs.run_files import load_masks
from tests.conftest import demo_run, edit_json, invoke, one_line_error
from tests.own_folder import picture, write_folder

pytestmark = pytest.mark.slow

YAML = """classes: {background: 0, disk: 255}
ignore: 128
groups: groups.csv
range: [3000, 41250]
tile: {size: 24, overlap: 4}
licence: CC BY 4.0, by ourselves.
"""


def trained(results, *arguments, **options):
    """Results folder and record of one short run."""
    result = demo_run(results, "mean_teacher", "--json", *arguments, **options)
    assert result.returncode == 0, result.stderr
    return results, json.loads(result.stdout)


def deep_folder(folder: Path, first: int = 0) -> Path:
    """Twelve images of 52 x 40 px in 16 bits, two without a mask, and their splits; `first` tells folders apart."""
    write_folder(folder, YAML, images=12, bare=2, classes=2, values=(0, 255))
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        grey = picture(first + number, 2)[0][..., 0].astype(np.uint16)
        Image.fromarray(grey * 150 + 3000).save(path)
    assert invoke("data", "split", folder, "--write").returncode == 0
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on whole images."""
    return trained(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return deep_folder(tmp_path_factory.mktemp("folder") / "deep")


@pytest.fixture(scope="module")
def tiled(own):
    """A run on tiles of a folder of one's own, with a labelled list of the user's own."""
    fold = json.loads((own / "splits" / "folds.json").read_text())["folds"][0]
    mine = [name for name in fold["train"] if name not in fold.get("unmasked", ())][:3]
    (own.parent / "three.txt").write_text("\n".join(mine))
    return trained(own.parent / "results", "--labelled", own.parent / "three.txt", dataset=own)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Images that the run has not seen; of the first, nothing is known in the first tile."""
    folder = deep_folder(tmp_path_factory.mktemp("folder") / "other", first=50)
    first = folder / "masks" / "A_0.png"
    mask = np.array(Image.open(first))
    mask[:24, :24] = 128
    Image.fromarray(mask).save(first)
    return folder


@pytest.fixture
def images(tmp_path):
    """Two images of the test set, one of them with blanks and an accent in its name."""
    prepared, folder = load_prepared("synthetic", 32), tmp_path / "images"
    folder.mkdir()
    for name, called in zip(prepared.ids[:2], ("plain", "mit Ä und Blank"), strict=True):
        Image.fromarray(prepared.images[prepared.position(name)]).resize((50, 40)).save(folder / f"{called}.png")
    return folder


def mask_of(folder, name):
    return np.asarray(Image.open(folder / "masks" / f"{name}.png"))


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


@pytest.mark.parametrize(("file", "content"), [
    ("weights.pt", "no weights"), ("model.json", '{"mean": [0.5]}'), ("model.json", '{"schema": 1}'),
    ("record", '{"cost": 3}'),
])
def test_what_was_damaged_is_one_line(finished, tmp_path, file, content):
    results, record = finished
    shutil.copytree(results, tmp_path / "results")
    run = tmp_path / "results" / "runs" / record["run_id"]
    path = tmp_path / "results" / "records" / f"{run.name}.json" if file == "record" else run / file
    if path.suffix == ".json":
        content = json.dumps(json.loads(path.read_text()) | json.loads(content))
    path.write_text(content)
    line = one_line_error(invoke("export", run.name, "--results", tmp_path / "results", "--format", "weights"))
    assert "damaged" in line or "has schema 1" in line


def test_a_prediction_is_the_mask_that_the_run_was_scored_by(finished, tiled, own, tmp_path):
    """Whole images and tiles alike: one function stitches, so nothing depends on which verb predicts."""
    results, record = tiled
    masks = load_masks(results / "runs" / record["run_id"] / "masks.npz")
    said = invoke("predict", record["run_id"], *(own / "images" / f"{name}.png" for name in masks), "--results",
                  results, "--output", tmp_path / "tiled", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["windows"] == {"height": 24, "width": 24, "overlap": 4}
    for name, scored in masks.items():
        assert np.mean(mask_of(tmp_path / "tiled", name) == scored) > 0.999, name  # batches differ in a last bit
    results, record = finished
    masks = load_masks(results / "runs" / record["run_id"] / "masks.npz")
    for item in load_dataset("synthetic").items(tmp_path):
        if item.id in masks:
            Image.fromarray(item.image()).save(tmp_path / f"{item.id}.png")
    said = invoke("predict", record["run_id"], tmp_path, "--results", results, "--output", tmp_path / "whole")
    assert said.returncode == 0 and len(masks) == record["data"]["test"]
    for name, scored in masks.items():
        assert np.mean(mask_of(tmp_path / "whole", name) == scored) > 0.999, name


def test_windows_can_be_chosen_and_another_scale_is_warned_of(tiled, own, tmp_path):
    results, record = tiled
    line = ["predict", record["run_id"], own / "images" / "A_0.png", "--results", results, "--no-overlay", "--output"]
    scored = invoke(*line, tmp_path / "scored")
    assert "tiles of 24 x 24 pixels" in scored.stderr
    whole = invoke(*line, tmp_path / "whole", "--tile", "whole")
    assert whole.returncode == 0 and "--tile auto" in whole.stderr
    other = invoke(*line, tmp_path / "other", "--tile", "40", "--overlap", "10")
    assert other.returncode == 0, other.stderr
    found = [mask_of(tmp_path / name, "A_0") for name in ("scored", "whole", "other")]
    assert {mask.shape for mask in found} == {(40, 52)}
    assert (found[0] != found[1]).any() and (found[0] != found[2]).any()


def test_an_unreadable_image_is_reported_and_the_others_are_predicted(finished, images, tmp_path):
    results, record = finished
    (images / "broken.png").write_bytes(b"no image")
    result = invoke("predict", record["run_id"], images, images / ".." / "images" / "plain.png", "--results", results,
                    "--output", tmp_path / "out")
    assert result.returncode == 1 and "broken.png" in result.stderr and "Traceback" not in result.stderr
    assert "2 of 3 images" in result.stderr, "one was named twice"
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {"plain.png", "mit Ä und Blank.png"}


def test_predict_replaces_predictions_alone(finished, images, tmp_path):
    """`--output` may name the folder that holds the truth: nothing is written over it or beside it."""
    results, record = finished
    line = ["predict", record["run_id"], images, "--results", results, "--output"]
    assert invoke(*line, tmp_path / "out").returncode == 0
    assert "--overwrite replaces predictions" in one_line_error(invoke(*line, tmp_path / "out"))
    (tmp_path / "out" / "masks" / ".DS_Store").touch()
    assert invoke(*line, tmp_path / "out", "--overwrite", "--no-overlay").returncode == 0
    assert not any((tmp_path / "out" / "overlays").iterdir()), "no overlay of an earlier mask"
    for name, suffix in (("same", "png"), ("bitmaps", "bmp")):
        truth = tmp_path / name / "masks" / f"plain.{suffix}"
        truth.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(truth)
        before = truth.read_bytes()
        for more in ([], ["--overwrite"]):
            assert f"{truth} was not written by `predict`" in one_line_error(invoke(*line, truth.parents[1], *more))
        assert [path.name for path in truth.parent.iterdir()] == [truth.name] and truth.read_bytes() == before


def test_what_cannot_be_meant_is_one_line(finished, images, tmp_path):
    """Wrong places, other classes, no splits: said before anything is prepared or written."""
    results, record = finished
    run, file, folder = record["run_id"], tmp_path / "file", write_folder(tmp_path / "own", images=4, bare=0, classes=2)
    file.write_text("no folder")

    def line(verb, *arguments):
        return one_line_error(invoke(verb, run, *arguments, "--results", results))

    assert f"is {folder / 'images'} meant?" in line("predict", folder)
    assert f"{file}: a file stands where a folder is needed" in line("predict", images, "--output", file)
    assert "is no export" in line("export", "--output", results / "runs" / run, "--overwrite")
    assert (results / "runs" / run / "weights.pt").is_file()
    assert "seen whole" in line("predict", images, "--overlap", "4")
    assert "--tile 9999" in line("predict", images, "--tile", "9" * 5000)
    for name, words in (("nucleus", "class mismatch"), ("gland", "own has no splits"),
                        ("gland: 1}\npixels: grey #", "trained on images in colour, and own reads them in grey")):
        (folder / "dataset.yaml").write_text(f"classes: {{background: 0, {name}: 1}}\n".replace("grey #: 1}", "grey"))
        assert words in line("evaluate", "--dataset", folder)


def test_evaluating_a_run_on_its_own_test_images_gives_its_record_s_scores(finished, tiled, own):
    for (results, record), dataset in ((finished, "synthetic"), (tiled, own / "dataset.yaml")):
        path = results / "records" / f"{record['run_id']}.json"
        before = path.read_bytes()
        line = ["evaluate", record["run_id"], "--results", results, "--dataset", dataset, "--json"]
        result = invoke(*line)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["scores"]["strict"]["dice"] == record["scores"]["strict"]["dice"]
        assert "already evaluated" in invoke(*line).stderr and path.read_bytes() == before


def test_a_loaded_run_predicts_with_the_determinism_it_was_trained_with(finished):
    torch.use_deterministic_algorithms(True)
    try:
        load_run(finished[1]["run_id"], finished[0])
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_evaluate_scores_other_images_by_all_their_tiles_and_warns_of_another_scale(tiled, other, tmp_path):
    results, record = tiled
    line = ["evaluate", record["run_id"], "--results", results, "--dataset"]
    assert json.loads(invoke(*line, other, "--json").stdout)["split"] == "folds"
    content = json.loads(invoke(*line, other, "--sets", "all", "--objects", "--json").stdout)
    assert content["left_out"] == {"trained_on": [], "without_mask": ["A_10", "B_11"]}
    assert len(content["images"]) == content["scores"]["strict"]["n"] == 10 and "A_0" in content["images"]
    again = invoke(*line, other, "--sets", "all", "--objects", "--fold", "1", "--json")
    assert json.loads(again.stdout) == content, "all images are of no fold"
    folder = shutil.copytree(other, tmp_path / "whole")
    (folder / "dataset.yaml").write_text(YAML.replace("tile", "# tile"))
    result = invoke(*line, folder, "--sets", "all")
    assert result.returncode == 0 and "52 x 40 px here (median) and had 24 x 24" in result.stderr, result.stderr


def test_an_export_gives_the_logits_of_the_run(finished, tmp_path, monkeypatch):
    results, record = finished
    folder = tmp_path / "model"
    line = ["export", record["run_id"], "--results", results, "--output", folder]
    result = invoke(*line)
    assert result.returncode == 0, result.stderr
    run, exported = load_run(record["run_id"], results), load_run(str(folder), results)
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (ours,), (theirs,) = run.method.predict(image).values(), exported.method.predict(image).values()
    assert torch.equal(ours, theirs)
    program = torch.export.load(folder / "model.pt2").module()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (run.model.mean, run.model.std))
    torch.testing.assert_close(program(image * std + mean), ours, rtol=1e-3, atol=1e-3)
    text = (folder / "MODEL.md").read_text()
    Image.fromarray(picture(0, 2)[0]).save(folder / "image.png")
    monkeypatch.chdir(folder)
    exec(text.partition("```python\n")[2].partition("```")[0], names := {})
    assert names["logits"].shape == (1, 2, 32, 32)
    assert record["run_id"] in text and f"{100 * record['scores']['strict']['dice']:.2f}" in text
    assert "exists; --overwrite" in one_line_error(invoke(*line)) and invoke(*line, "--overwrite").returncode == 0
    assert invoke(*line, "--overwrite", "--format", "program").returncode == 0
    assert "benchmark predict" not in (folder / "MODEL.md").read_text()
    assert "an export without weights" in one_line_error(invoke("predict", folder, folder / "image.png"))


def test_an_export_holds_no_mask_of_a_training_image(tmp_path):
    record = json.loads(demo_run(tmp_path, "weak_teacher_student", "--json").stdout)
    run = load_run(record["run_id"], tmp_path)
    assert (run.weights["annotation"] == 1).any(), "the run itself remembers them"
    folder = tmp_path / "model"
    assert invoke("export", record["run_id"], "--results", tmp_path, "--output", folder).returncode == 0
    program, exported = torch.export.load(folder / "model.pt2"), load_run(str(folder), tmp_path)
    for names in (exported.weights, program.state_dict, program.constants):
        assert not [name for name in names if name.rpartition(".")[2] in run.method.method.of_images]
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (ours,), (theirs,) = run.method.predict(image).values(), exported.method.predict(image).values()
    assert torch.equal(ours, theirs)


def test_the_table_of_an_evaluation_tells_values_of_one_name_apart():
    scored = {"run_id": "r", "dataset": "d", "sets": "all", "groups": {
        "centre": {"1": {"dice": 0.1, "n": 2}}, "scanner": {"1": {"dice": 0.2, "n": 3}}, "grade": {"a": {"dice": 0.3}}},
        "scores": {"strict": {"dice": 0.5, "n": 5, "classes": {"a": {"dice": 0.4}}}}}
    _, head, first, *_ = _table(scored, ("background", "a"))
    assert head.split() == ["all", "centre", "1", "scanner", "1", "grade", "a", "class", "a"]
    assert first.split() == ["Dice", "50.00", "10.00", "20.00", "30.00", "40.00"]


def test_an_export_reads_and_cuts_as_its_run_does_and_names_licence_and_no_place(tiled, own, tmp_path):
    results, record = tiled
    exported = tmp_path / "model"
    assert invoke("export", record["run_id"], "--results", results, "--output", exported, "--format", "weights"
                  ).returncode == 0
    model = load_run(str(exported), results).model
    assert model.tile == (24, 4) and model.native_size == (24, 24) and model.decoding.range == (3000, 41250)
    assert model.counts[0] == 3 * 6 and model.counts[2] == 12 * 6, "the method was told tiles"
    for name, run in (("run", record["run_id"]), ("export", exported)):
        invoke("predict", run, own / "images" / "B_1.png", "--results", results, "--output", tmp_path / name)
    assert np.array_equal(mask_of(tmp_path / "run", "B_1"), mask_of(tmp_path / "export", "B_1"))
    text = (exported / "MODEL.md").read_text()
    for words in ("CC BY 4.0, by ourselves.", "tiles (overlap 4) of 24 x 24", "3000 is black, 41250 white",
                  "3 labelled and", "# mean_teacher on deep\n"):
        assert words in text
    assert str(own) not in text.replace(record["command"], "")


def test_verify_finds_a_record_equal_and_a_changed_one_not(tiled, own, tmp_path):
    results, record = tiled
    (own.parent / "three.txt").unlink()  # the record holds the user's own labelled list
    result = invoke("verify", record["run_id"], "--results", results, "--json")
    assert result.returncode == 0, result.stderr + result.stdout
    copy = tmp_path / "results"
    shutil.copytree(results / "records", copy / "records")
    path = copy / "records" / f"{record['run_id']}.json"
    strict = dict(record["scores"]["strict"])
    del strict["precision"]  # a score that an older record lacks is no difference, another value is one
    edit_json(path, weights_sha256="0" * 64, scores=record["scores"] | {"strict": strict | {"recall": 0.5}})
    result = invoke("verify", record["run_id"], "--results", copy)
    assert result.returncode == 4 and "weights: other weights" in result.stdout and "counts: equal" in result.stdout
    assert "strict.recall was 0.5, now" in result.stdout and "precision" not in result.stdout
