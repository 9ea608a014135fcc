"""MPAMatch-style: UniMatch with prototypes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.losses import cross_entropy, one_hot
from benchmark.method import Batch, Clock, Losses, Method, NotApplicable, Ramp, Task, require
from benchmark.ranges import FileOr, Linear, Log, NonNegative, Positive, Share, ShareBelow1
from methods._text_prototypes import Anchors, Prompts
from methods.unimatch import UniMatch

WIDTH = 32
STREAMS = ("supervised", "strong", "strong2")


def similarity(embedding: Tensor, vectors: Tensor, temperature: float) -> Tensor:
    """cos(z, v_c) / temperature of pixels [B, D, h, w] and vectors [C, D]: logits [B, C, h, w]."""
    length = torch.linalg.vector_norm(embedding, dim=1, keepdim=True).clamp(min=1e-6)
    return F.conv2d(embedding, F.normalize(vectors, dim=1)[..., None, None]) / (temperature * length)


class MPAMatch(UniMatch, Method):
    """MPAMatch-style (after Fu et al. 2025, arXiv): UniMatch whose pixels are drawn to prototypes of image and text.

    The paper has two contrastive terms beside UniMatch: between pixels and image prototypes, for structure (coarse),
    and between pixels and text prototypes, for meaning (fine), on a TransUNet with UNI. None of its equations, weights,
    prompts or results could be read, and it has no public code: all that is marked "ours" is a guess.

    Loss:
        L = L_UniMatch + image CE(cos(z, P) / T, y) + text CE(cos(t, Q) / T, y), each a mean over the pixels with a
            label; y: the mask, or UniMatch's pseudo-label of the strong view; 255 teaches nothing
        z: linear map of the third finest map (a quarter of the side in a U-Net); t: of the finest; 32 channels each
        P_c <- decay P_c + (1 - decay) mean of z / |z| over these pixels of class c; no gradient
        Q_c: text prototypes, centred over the classes

    Args:
        weight: of UniMatch's terms, as there.
        threshold: on max q for a pseudo-label, as in UniMatch.
        dropout: of the features, as in UniMatch.
        unsupervised: `dice` is UniMatch's medical code's.
        ramp: of UniMatch's weight.
        image: weight of the image prototypes. Ours.
        text: weight of the text prototypes. Ours. With both weights 0 this is UniMatch.
        temperature: T of both. Ours; without one the loss of a perfect match could not fall below 0.127.
        decay: of the image prototypes; 0 takes those of the batch. Ours.
        vectors: text prototypes: `fixed` orthonormal ones, `minilm`'s of prompts that learn, or a file with a row a
            class (.npy, .safetensors), as of CONCH or CLIP. Ours: the paper's text encoder is not known.
        class_names: what the prompts of `minilm` call the classes. Ours.

    Differs from published code:
        - There is none. The paper's prompts learn, as `minilm`'s do here.
        - With two classes any centred text vectors are t and -t: all kinds of `vectors` then ask for the same.
    """

    display = "MPAMatch-style"
    prototypes: Tensor  # [C, WIDTH]
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98), "image": Log(0.02, 0.5), "text": Log(0.02, 0.5)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.95, dropout: ShareBelow1 = 0.5,
        unsupervised: Literal["ce", "dice"] = "ce", ramp: Ramp = "constant", image: NonNegative = 0.1,
        text: NonNegative = 0.1, temperature: Positive = 0.1, decay: Share = 0.99,
        vectors: Annotated[str, FileOr("fixed", "minilm")] = "fixed",
        class_names: tuple[str, ...] = ("background", "gland"),
    ) -> None:
        super().__init__(
            task, weight=weight, threshold=threshold, dropout=dropout, unsupervised=unsupervised, ramp=ramp)
        if len(self.net.map_widths) < 3:
            raise NotApplicable("mpamatch compares pixels of the third finest map, and this network has fewer")
        minilm = vectors == "minilm"
        require(not minilm or len(class_names) == task.classes,
                f"method.class_names names {len(class_names)} classes, and the data have {task.classes}: name each")
        require(minilm or class_names == ("background", "gland"),
                "method.class_names is for method.vectors=minilm; leave it out")
        self.image, self.text, self.temperature, self.decay = image, text, temperature, decay
        with task.init_seed():
            self.coarse = nn.Conv2d(self.net.map_widths[-3], WIDTH, 1)
            self.fine = nn.Conv2d(self.net.width, WIDTH, 1)
            self.vectors = Prompts(class_names, WIDTH) if minilm else Anchors(vectors, task.classes, WIDTH)
        self.register_buffer("prototypes", torch.zeros(task.classes, WIDTH))

    @torch.no_grad()
    def remember(self, embedding: Tensor, label: Tensor, clock: Clock) -> None:
        """Move every class's prototype towards its pixels of this step, if there are any; at first 0."""
        of_class = one_hot(label, len(self.prototypes))[0].to(embedding.dtype)
        pixels = of_class.sum((0, 2, 3))[:, None]
        mean = torch.einsum("bchw,bdhw->cd", of_class, F.normalize(embedding, dim=1)) / pixels.clamp(min=1)
        share = (pixels > 0) * (1 - clock.ema(self.decay))
        self.prototypes.lerp_(mean, share.to(mean.dtype))

    def contrast(self, coarse: Tensor, fine: Tensor, label: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Both terms, of maps [B, width, h, w] and [B, width, S, S] and labels [B, S, S]."""
        stride = label.shape[-1] // coarse.shape[-1]
        few = label[..., ::stride, ::stride]
        with torch.autocast(coarse.device.type, enabled=False):
            z, t = (part(last.to(part.weight.dtype)) for part, last in ((self.coarse, coarse), (self.fine, fine)))
            self.remember(z, few, clock)
            return {
                "image": self.image * cross_entropy(similarity(z, self.prototypes, self.temperature), few),
                "text": self.text * cross_entropy(similarity(t, self.vectors(), self.temperature), label),
            }

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        features = self.net.encode(unlabelled.weak)
        labels = self.labels(features, labelled, unlabelled)
        maps = {"features": self.net.decode(self.dropped(features))}
        for stream, view in zip(STREAMS, (labelled.weak, unlabelled.strong, unlabelled.strong2), strict=True):
            maps[stream] = self.net.decode(self.net.encode(view))
        logits = {stream: self.net.head(levels[-1]) for stream, levels in maps.items()}
        coarse, fine = (torch.cat([maps[stream][level] for stream in STREAMS]) for level in (-3, -1))
        label = torch.cat([labels[stream] for stream in STREAMS])
        return self.terms(logits, labels, clock) | self.contrast(coarse, fine, label, clock)
