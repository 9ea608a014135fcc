"""Generated H&E-like colon tissue, part two: layouts become two stains, and the stains become colour."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from benchmark.data.synthesis.layout import (
    BUNDLE,
    FOLLICLE,
    GLAND,
    GRADES,
    MARGIN,
    VERSION,
    VESSEL,
    Layout,
    Patient,
    lay_out,
    truth,
)
from benchmark.data.synthesis.random_stream import Array, Stream


def draw(seed: int, number: int, patient: int, grade: str) -> tuple[Array, Array]:
    """Image `number` of a seed: colours uint8 [192,256,3] and gland instance ids uint8 [192,256].

    `patient` chooses the staining, `grade` is "benign" or "malignant" (ValueError for another)."""
    if grade not in GRADES:
        raise ValueError(f"grade is {grade!r}, must be one of {GRADES}")
    person = Patient.draw(seed, patient, grade)
    layout = lay_out(Stream(VERSION, seed, "layout", number), person, grade)
    stains = _Canvas(Stream(VERSION, seed, "tissue", number), person, layout, grade == "malignant").paint()
    return _expose(Stream(VERSION, seed, "camera", number), person, stains), truth(layout)


class _Canvas:
    """Stain concentrations of one image: `self.h` and `self.e`, [h,w]; a cell nucleus is about 1 in `h`."""

    def __init__(self, stream: Stream, patient: Patient, layout: Layout, malignant: bool) -> None:
        self.stream, self.patient, self.layout, self.malignant = stream, patient, layout, malignant
        self.shape: tuple[int, int] = layout.blobs.shape  # type: ignore[assignment]
        self.kind = np.where(layout.blobs > 0, layout.kinds[layout.blobs], -1)
        self.depth = layout.depth
        self.h = np.zeros(self.shape)
        self.e = np.zeros(self.shape)
        slope = np.gradient(ndimage.gaussian_filter(layout.depth, 1.5))
        self.grain = stream.field(self.shape, 2.5)  # texture of chromatin and cytoplasm
        self.inward = np.arctan2(slope[0], slope[1])  # direction towards the middle of a blob

    def paint(self) -> Array:
        """All layers from back to front; returns [2,h,w]."""
        self.stroma()
        self.disguises()
        self.glands()
        return np.stack([self.h, self.e])

    # --- layers ---------------------------------------------------------------------------------------------

    def stroma(self) -> None:
        """Wavy fibres, pale gaps between them, clefts around glands, spindle cells and lymphocytes."""
        stream, shape = self.stream, self.shape
        angle, wave = stream.number(0, np.pi), stream.number(5.0, 9.0)
        y, x = np.indices(shape)
        phase = (y * np.cos(angle) - x * np.sin(angle)) / wave + 2.2 * stream.field(shape, 42.0)
        fibre = 0.5 + 0.5 * np.sin(2 * np.pi * phase + 1.5 * stream.field(shape, 9.0))
        loose = _step(stream.field(shape, 26.0) + 1.2 * fibre - 1.6, 0.5)
        self.e[:] = 0.50 + 0.16 * fibre + 0.07 * self.grain
        self.e *= 1 - 0.55 * loose
        self.h[:] = 0.13 + 0.05 * stream.field(shape, 12.0) - 0.06 * loose
        cleft = _step(stream.field(shape, 20.0) + 2.4 * self.patient.clefts - 2.2, 0.2)
        self.thin(cleft * _step(self.depth + 5.0, 0.8) * (self.depth < 0))
        slope = np.gradient(phase)
        crowd = _step(stream.field(shape, 30.0) + 2.4 * self.patient.nuclei - 1.6, 0.6)
        outside = self.kind < 0
        spindles = self.scatter(outside * 0.6, 8)
        self.nuclei(spindles, 4.2, 1.3, np.arctan2(slope[0], slope[1]) + np.pi / 2, 0.85)
        self.nuclei(self.scatter(outside * (0.06 + 0.75 * crowd), 5), 2.0, 1.8, self.inward, 1.05)

    def disguises(self) -> None:
        """Blobs that colour alone takes for glands: vessels and tears, lymph follicles, bundles of muscle."""
        stream, shape, depth = self.stream, self.shape, self.depth
        vessel, follicle, bundle = (self.kind == kind for kind in (VESSEL, FOLLICLE, BUNDLE))
        vary = stream.uniform(shape=(len(self.layout.kinds),))[self.layout.blobs]  # one number a blob
        rough = stream.field(shape, 9.0)
        if vessel.any():
            wall = 0.5 + 4.0 * vary
            self.thin(vessel * _step(depth - wall + rough, 0.5) * (0.8 + 0.2 * vary))
            cells = self.scatter(vessel * (depth > wall + 1) * (vary > 0.6) * 0.8, 4)  # red blood cells
            self.e += 0.75 * self.stamp(cells, 2.1, 2.0, self.inward, 1.0)
            flat = self.scatter(vessel * (np.abs(depth - wall) < 1.2) * 0.6, 7)
            self.nuclei(flat, 3.6, 1.2, self.inward + np.pi / 2, 0.9)
        if follicle.any():
            fade = follicle * _step(depth - 1.5 + 1.5 * rough, 1.5)
            self.h += 0.15 * fade
            germinal = (vary > 0.5) * (depth > 24 * vary - 6)  # its pale centre
            self.nuclei(self.scatter((0.95 - 0.6 * germinal) * fade, 4), 2.1, 1.9, self.inward, 1.1)
        if bundle.any():
            fade = bundle * _step(depth - 1.0, 1.0)
            self.e += fade * (0.58 + 0.05 * self.grain - self.e)
            self.h += fade * (0.20 - self.h)
            self.nuclei(self.scatter(fade * 0.5, 9), 3.6, 1.3, np.pi * vary, 0.9)

    def glands(self) -> None:
        """Epithelium with nuclei at its base, goblet cells (benign) or rows of nuclei (malignant), lumen."""
        stream, shape, depth = self.stream, self.shape, self.depth
        inside = self.kind == GLAND
        base = 3.6 * self.patient.size
        rows = 2 if self.malignant else 1
        blobs = len(self.layout.kinds)
        height = stream.uniform(11.0, 18.0, (blobs,))
        solid = stream.uniform(shape=(blobs,)) < (0.25 if self.malignant else 0.08)
        height = np.where(solid, 60.0, height)[self.layout.blobs]
        rough = stream.field(shape, 9.0) * (2.6 if self.malignant else 1.0)
        body = inside * _step(depth + 0.5, 0.6)
        apical = _step(depth - 2.2 * base, 2.0)
        self.e += body * (0.44 + 0.08 * apical + 0.05 * self.grain - self.e)
        self.h += body * (0.30 - 0.10 * apical + 0.03 * self.grain - self.h)
        lumen = inside * _step(depth - height + rough, 0.5)
        self.thin(lumen * (1 - 0.45 * self.patient.mucin * _step(stream.field(shape, 14.0), 0.4)))
        if self.malignant:  # necrotic debris
            debris = _step(stream.field(shape, 4.0) + stream.field(shape, 16.0) - 1.1, 0.3) * lumen
            self.e += debris * 0.40
            self.nuclei(self.scatter(lumen * 0.25, 7), 1.4, 1.2, self.inward, 0.9)
        elif self.patient.goblets > 0.3:
            room = inside * (depth > 2.1 * base) * (depth < height + 2) * self.patient.goblets
            cups = self.scatter(room, 9)
            self.thin(self.stamp(cups, 4.4, 3.2, self.inward, 0.85))
        for row in range(rows):
            at = base * (1.0 + 1.45 * row) + 0.3 * rough
            chosen = self.scatter(inside * (1 - lumen) * (np.abs(depth - at) < 0.9) * (0.97 - 0.2 * row), 4)
            self.nuclei(chosen, 3.4, 1.9, self.inward, 1.0)
        if self.malignant:
            loose = inside * (1 - lumen) * (depth > 5.2 * base) * 0.6
            self.nuclei(self.scatter(loose, 6), 2.9, 2.1, self.inward, 0.95)

    # --- brushes --------------------------------------------------------------------------------------------

    def thin(self, amount: Array) -> None:
        """Take this share of both stains away."""
        self.h *= 1 - 0.93 * amount
        self.e *= 1 - 0.93 * amount

    def scatter(self, density: Array, cell: int) -> tuple[Array, Array]:
        """Rows and columns of one pixel or none per square of side `cell`, with chance `density` [h,w]."""
        key = np.where(density > 0, self.stream.uniform(shape=self.shape), 0.0)
        top, left = self.stream.integer(0, cell), self.stream.integer(0, cell)
        rows, columns = (key.shape[0] - top) // cell, (key.shape[1] - left) // cell
        whole = key[top : top + rows * cell, left : left + columns * cell]
        squares = whole.reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3)
        dy, dx = np.divmod(squares.reshape(rows * columns, cell * cell).argmax(1), cell)
        square = np.arange(rows * columns)
        y, x = square // columns * cell + dy + top, square % columns * cell + dx + left
        kept = self.stream.uniform(shape=square.shape) < density[y, x]
        return y[kept], x[kept]

    def nuclei(self, at: tuple[Array, Array], long: float, short: float, angle: Array, ink: float) -> None:
        """Nuclei of these semi-axes (varied), the long one along `angle` [h,w]; chromatin hides eosin."""
        cover = self.stamp(at, long * self.patient.size, short * self.patient.size, angle, 1.0)
        chromatin = ink * (0.9 + 0.14 * self.grain)
        self.h += cover * np.clip(chromatin - self.h, 0, None)
        self.e *= 1 - 0.5 * cover

    def stamp(self, at: tuple[Array, Array], long: float, short: float, angle: Array, ink: float) -> Array:
        """Soft ellipses [h,w] up to `ink`, each a little different in size, direction and strength."""
        count = len(at[0])
        vary = self.stream.uniform(-1, 1, (4, count, 1, 1))
        long_, short_ = long * (1 + 0.22 * vary[0]), short * (1 + 0.18 * vary[1])
        turn = angle[at][:, None, None] + 0.3 * vary[2]
        reach = int(np.ceil(1.25 * max(long, short))) + 1
        offset = np.arange(-reach, reach + 1)
        y, x = offset[:, None], offset[None]
        sine, cosine = np.sin(turn), np.cos(turn)
        radius = ((x * cosine + y * sine) / long_) ** 2 + ((y * cosine - x * sine) / short_) ** 2
        value = ink * (0.85 + 0.15 * vary[3]) * np.clip(1.8 * (1.25 - radius), 0, 1)
        width = self.shape[1] + 2 * reach
        canvas = np.zeros((self.shape[0] + 2 * reach) * width)
        index = (at[0][:, None, None] + reach + y) * width + at[1][:, None, None] + reach + x
        wet = value > 0
        np.maximum.at(canvas, index[wet], value[wet])
        return canvas.reshape(-1, width)[reach:-reach, reach:-reach]


def _expose(stream: Stream, patient: Patient, stains: Array) -> Array:
    """Beer-Lambert: stains [2,h,w] to colours uint8, with blur, uneven light and noise; no margin."""
    shape = stains.shape[1:]
    focus = patient.focus * stream.number(0.85, 1.25)
    stains = np.stack([ndimage.gaussian_filter(stain, focus, truncate=3.0) for stain in stains])
    thickness = 1 + 0.08 * stream.field(shape, 90.0)
    amounts = np.array(patient.amounts) * np.exp(0.08 * stream.normal((2,)))
    vectors = np.stack([patient.haematoxylin * 1.75 * amounts[0], patient.eosin * 0.95 * amounts[1]], 1)
    density = np.einsum("cs,shw->hwc", vectors, np.clip(stains, 0.0, None) * thickness)
    light = 1 + 0.035 * stream.field(shape, 110.0)[..., None]
    colour = (patient.white * light * np.exp(-density))[MARGIN:-MARGIN, MARGIN:-MARGIN]
    colour = colour + 0.012 * stream.normal(colour.shape)
    return np.round(np.clip(colour, 0, 1) * 255).astype(np.uint8)


def _step(value: Array, softness: float) -> Array:
    """A smooth step from 0 to 1 around zero."""
    return 1 / (1 + np.exp(-np.clip(value / softness, -40, 40)))
