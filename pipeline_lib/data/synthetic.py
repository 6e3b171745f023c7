"""Generate slices that look like electron microscopy of nervous tissue.

A slice is built like tissue. Rounded profiles of cells of very different sizes fill the plane: a warped, additively
weighted Voronoi diagram of packed seeds. Membranes of varying thickness separate them. Mitochondria, with a double
membrane and cristae, and small vesicles lie inside. Then the microscope adds blur, shot noise, uneven illumination and
contrast.

Slices of one stack share a `Look`. Otherwise they are independent: they do not continue each other in depth. Lengths
are pixels. Grey values lie in [0, 1] until the last step. Images and labels are YX.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

Field = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Look:
    """The properties that all slices of one specimen share under one microscope. Lengths are pixels."""

    cell_radius: float  # median radius of the packed seeds
    cell_spread: float  # standard deviation of the logarithm of the radius
    elongation: float  # largest half length of a cell, in radii
    warp: float  # amplitude of the coarse deformation
    membrane: float  # half width of a membrane in the image
    membrane_depth: float  # how much darker than cytoplasm it is
    label_margin: float  # half width of a membrane in the labels, in units of `membrane`
    cytoplasm: float  # mean grey
    cell_contrast: float  # standard deviation of the mean grey of cells
    granules: tuple[float, float]  # amplitudes of the fine and the coarse texture
    mitochondria: float  # number in 100 × 100 pixels
    mitochondrion_radius: float
    mitochondrion_depth: float
    vesicles: float  # number in 100 × 100 pixels
    blur: float
    shot_noise: float
    grain: float  # standard deviation of the filter that correlates the noise
    illumination: float
    gamma: float

    @classmethod
    def draw(cls, rng: Generator) -> "Look":
        """Draw the look of a random specimen: a thin section or a block face, at about 4 to 8 nm per pixel."""
        return cls(
            cell_radius=np.exp(rng.uniform(np.log(6), np.log(22))),
            cell_spread=rng.uniform(0.35, 0.85),
            elongation=rng.uniform(0.5, 5.0),
            warp=rng.uniform(2, 9),
            membrane=rng.uniform(1.2, 3.0),
            membrane_depth=rng.uniform(0.22, 0.5),
            label_margin=rng.uniform(1.0, 1.3),
            cytoplasm=rng.uniform(0.55, 0.75),
            cell_contrast=rng.choice([rng.uniform(0.005, 0.03), rng.uniform(0.03, 0.09)]),
            granules=(rng.uniform(0.01, 0.07), rng.uniform(0.0, 0.05)),
            mitochondria=rng.uniform(0.1, 1.6),
            mitochondrion_radius=rng.uniform(8, 20),
            mitochondrion_depth=rng.uniform(0.06, 0.26),
            vesicles=rng.uniform(0, 40) * rng.random(),
            blur=rng.uniform(0.5, 1.3),
            shot_noise=rng.uniform(0.01, 0.1),
            grain=rng.uniform(0.0, 0.8),
            illumination=rng.uniform(0.0, 0.06),
            gamma=rng.uniform(0.75, 1.35),
        )


@dataclass(frozen=True)
class GeneratedSlice:
    """A generated slice with the labels of its cells and mitochondria."""

    image: NDArray[np.uint8]  # YX
    cells: Labels  # YX, 0 on membranes
    mitochondria: Labels  # YX, 0 outside


@dataclass(frozen=True)
class Tissue:
    """The nearest cell of each pixel, and the distances to the next cells."""

    owner: NDArray[np.int16]  # YX, index of the nearest seed
    border: Field  # YX, distance to the border with the second nearest cell
    junction: Field  # YX, distance to the corner that a third cell shares


def generate_slice(rng: Generator, shape: tuple[int, int], look: Look) -> GeneratedSlice:
    """Generate a slice of `shape` (height, width)."""
    # Cells and their membranes
    tissue = _tessellate(rng, shape, look)
    width = look.membrane * _membrane_width(rng, shape)
    cells = label(np.where(tissue.border > look.label_margin * width, tissue.owner + 1, 0), connectivity=1)
    # Grey values in [0, 1]
    grey = _cytoplasm(rng, tissue, look)
    _add_vesicles(rng, grey, look)
    mitochondria = _add_mitochondria(rng, grey, tissue.owner, tissue.border - width, look)
    _add_membranes(rng, grey, tissue, width, look)
    return GeneratedSlice(_expose(rng, grey, look), cells.astype(np.int32), mitochondria)


def _smooth_noise(rng: Generator, shape: tuple[int, int], sigma: float) -> Field:
    """Draw Gaussian noise of unit variance that is correlated over `sigma` pixels.

    It is drawn on a coarse grid and enlarged, if `sigma` is large enough.
    """
    step = max(1.0, sigma / 3)
    coarse = [int(np.ceil(n / step)) + 4 for n in shape]
    noise = ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / step, mode="wrap")
    noise /= noise.std() + 1e-9
    fine: Field = noise if step == 1.0 else ndimage.zoom(noise, step, order=3)
    return fine[: shape[0], : shape[1]]


def _window(centre: tuple[float, float], reach: float, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the part of an image within `reach` pixels of a point YX. It is empty if the point is far outside."""
    low, high = (np.clip(np.add(centre, d), 0, shape).astype(int) for d in (-reach, reach + 1))
    return slice(low[0], high[0]), slice(low[1], high[1])


def _pack_seeds(rng: Generator, shape: tuple[int, int], look: Look) -> tuple[Field, Field, Field]:
    """Draw the seeds of cells: line segments that do not collide, the largest first.

    Returns:
        Centres (N, 2) YX, vectors from the centre to an end (N, 2) YX, and radii (N,).
    """
    # Draw many candidates, also around the slice
    height, width = shape
    pad = 0.15 * max(shape)
    area = (height + 2 * pad) * (width + 2 * pad)
    tries = int(np.clip(6 * area / look.cell_radius**2, 60, 6000))
    radii = np.sort(look.cell_radius * np.exp(look.cell_spread * rng.standard_normal(tries)))[::-1]
    radii = np.clip(radii, 4, 64)
    centres = rng.uniform((-pad, -pad), (height + pad, width + pad), (tries, 2))
    angle = rng.uniform(0, np.pi) + rng.normal(0, rng.uniform(0.2, 2.0), tries)  # fibres can run in parallel
    length = radii * np.clip(rng.exponential(0.4, tries), 0, 1) * look.elongation
    halves = length[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    # Keep those that do not collide with larger ones. A segment stands for five discs
    packing = rng.uniform(0.75, 0.95)
    beads = np.linspace(-1, 1, 5)[None, :, None]
    kept: list[int] = []
    discs, reach = np.empty((0, 2)), np.empty(0)
    for i in range(tries):
        candidate = (centres[i] + beads * halves[i])[0]
        gap = np.hypot(*(candidate[:, None] - discs[None]).transpose(2, 0, 1)) - packing * (reach + radii[i])
        if gap.size and gap.min() < 0:
            continue
        kept.append(i)
        discs, reach = np.concatenate([discs, candidate]), np.concatenate([reach, np.full(5, radii[i])])
    return centres[kept].astype(np.float32), halves[kept].astype(np.float32), radii[kept].astype(np.float32)


def _tessellate(rng: Generator, shape: tuple[int, int], look: Look) -> Tissue:
    """Divide the plane into additively weighted Voronoi cells of packed segments. Their arcs make the cells round."""
    # Warp the plane
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    sigma = rng.uniform(10, 26)
    y += look.warp * _smooth_noise(rng, shape, sigma) + 0.9 * _smooth_noise(rng, shape, 3)
    x += look.warp * _smooth_noise(rng, shape, sigma) + 0.9 * _smooth_noise(rng, shape, 3)
    # Find the nearest cell of each pixel, and the distances to the three nearest ones
    nearest = np.full((3, *shape), 1e6, np.float32)
    owner = np.zeros(shape, np.int16)
    for index, (centre, half, radius) in enumerate(zip(*_pack_seeds(rng, shape, look), strict=True)):
        dy, dx = y - centre[0], x - centre[1]
        along = np.clip((dy * half[0] + dx * half[1]) / max(float(half @ half), 1e-6), -1, 1)
        distance = np.hypot(dy - along * half[0], dx - along * half[1]) - radius
        owner[distance < nearest[0]] = index
        for rank in range(3):  # insert the distance into the three smallest
            nearest[rank], distance = np.minimum(nearest[rank], distance), np.maximum(nearest[rank], distance)
    return Tissue(owner, (nearest[1] - nearest[0]) / 2, (nearest[2] - nearest[0]) / 2)


def _membrane_width(rng: Generator, shape: tuple[int, int]) -> Field:
    """Draw the relative width of membranes: about 1, and more where the cut through a membrane is oblique."""
    slant = np.maximum(_smooth_noise(rng, shape, rng.uniform(7, 16)) - rng.uniform(1.0, 2.2), 0)
    width: Field = np.clip(1 + 0.15 * _smooth_noise(rng, shape, 6), 0.7, 1.5) + rng.uniform(0, 2.5) * slant
    return width


def _add_membranes(rng: Generator, grey: Field, tissue: Tissue, width: Field, look: Look) -> None:
    """Darken the borders between cells, and the spaces where three of them meet."""
    line = np.exp(-((tissue.border / width) ** rng.uniform(1.6, 3.0)))
    corner = np.exp(-((tissue.junction / (1.6 * width)) ** 2))
    strength = np.clip(1 + 0.2 * _smooth_noise(rng, grey.shape, 9), 0.45, 1.4) / np.sqrt(width / look.membrane)
    grey -= look.membrane_depth * strength * np.maximum(line, rng.uniform(0.4, 1.0) * corner)


def _cytoplasm(rng: Generator, tissue: Tissue, look: Look) -> Field:
    """Draw a grey value for each cell, and granular texture at two scales."""
    cell = rng.normal(look.cytoplasm, look.cell_contrast, int(tissue.owner.max()) + 1).astype(np.float32)
    shape = tissue.owner.shape
    fine = look.granules[0] * _smooth_noise(rng, shape, rng.uniform(0.8, 1.6))
    coarse = look.granules[1] * _smooth_noise(rng, shape, rng.uniform(2.5, 6))
    return cell[tissue.owner] + fine * (1 + 0.4 * _smooth_noise(rng, shape, 20)) + coarse


def _add_vesicles(rng: Generator, grey: Field, look: Look) -> None:
    """Paint small dark rings, some in clusters, as at synapses and along microtubules."""
    count = rng.poisson(look.vesicles * grey.size / 1e4)
    clusters = rng.uniform((0, 0), grey.shape, (max(1, count // 8), 2))
    centres = np.where(
        rng.random((count, 1)) < 0.5,
        rng.uniform((0, 0), grey.shape, (count, 2)),
        clusters[rng.integers(0, len(clusters), count)] + rng.normal(0, 14, (count, 2)),
    )
    for cy, cx in centres:
        radius, depth = rng.uniform(0.8, 3.4), rng.uniform(0.05, 0.22)
        window = _window((cy, cx), 8, grey.shape)
        y, x = np.ogrid[window]
        distance = np.hypot(y - cy, x - cx)
        grey[window] -= depth * np.exp(-(((distance - radius) / 0.9) ** 2))
        grey[window] += 0.3 * depth * (distance < radius - 1)


def _add_mitochondria(rng: Generator, grey: Field, owner: NDArray[np.int16], inside: Field, look: Look) -> Labels:
    """Paint ellipses with two dark membranes and cristae, each within one cell, and return their labels."""
    labels = np.zeros(grey.shape, np.int32)
    bend = _smooth_noise(rng, grey.shape, 8), _smooth_noise(rng, grey.shape, 8)
    for _ in range(rng.poisson(look.mitochondria * grey.size / 1e4)):
        centre = rng.uniform((0, 0), grey.shape)
        pixel = int(centre[0]), int(centre[1])
        if inside[pixel] < 3:
            continue
        long = look.mitochondrion_radius * rng.uniform(0.7, 1.6)
        short = look.mitochondrion_radius * rng.uniform(0.55, 0.95)
        # Region: a bent ellipse within its cell, apart from other mitochondria
        window = _window(pixel, long + 12, grey.shape)
        y, x = np.ogrid[window]
        angle = rng.uniform(0, np.pi)
        dy, dx = y - centre[0] + 2 * bend[0][window], x - centre[1] + 2 * bend[1][window]
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        region = ((u / long) ** 2 + (v / short) ** 2 < 1) & (owner[window] == owner[pixel])
        region &= (inside[window] > 2) & (labels[window] == 0)
        if region.sum() < 80:
            continue
        labels[window][region] = labels.max() + 1
        # Membranes and cristae, by the distance from the outer membrane
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        tilt, pitch = rng.uniform(-0.6, 0.6), rng.uniform(4.5, 9.0)
        cristae = np.sin(2 * np.pi * (u * np.cos(tilt) + v * np.sin(tilt)) / pitch + 0.8 * bend[1][window]) > 0.35
        paint = look.mitochondrion_depth * rng.uniform(0.7, 1.2) * np.ones_like(depth)
        paint += 0.2 * np.exp(-((depth - 1.0) ** 2)) - 0.1 * np.exp(-((depth - 3.0) ** 2))
        paint += 0.14 * np.exp(-((depth - 4.6) ** 2) / 1.5)
        paint += rng.uniform(0.04, 0.15) * (cristae & (depth > 4.5))
        grey[window] -= np.where(region, paint, 0).astype(np.float32)
    return labels


def _expose(rng: Generator, grey: Field, look: Look) -> NDArray[np.uint8]:
    """Add blur, noise, illumination and contrast of the microscope, and return 8-bit grey values."""
    shape = grey.shape
    grey = ndimage.gaussian_filter(grey, look.blur)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), look.grain)
    noise /= noise.std()
    grey = grey + look.shot_noise * np.sqrt(np.clip(grey, 0.05, None) / look.cytoplasm) * noise
    grey += look.illumination * _smooth_noise(rng, shape, 0.25 * max(shape))
    low, high = np.percentile(grey, (rng.uniform(0.05, 1.0), rng.uniform(99.0, 99.95)))
    exposed: NDArray[np.uint8] = (
        (255 * np.clip((grey - low) / (high - low), 0, 1) ** look.gamma).round().astype(np.uint8)
    )
    return exposed
