"""The surface of objects is measured slice by slice."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skimage.measure import marching_cubes, mesh_surface_area

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.surfaces import surface_areas
from pipeline_lib.data.tracks import TRACKS, Tracks

SIDE = 40
PIXEL_SIZE = (50.0, 10.0, 10.0)  # nm


def tracks_of(labels: NDArray[np.int64]) -> Tracks:
    """Return tracks with the masks of a label image (ZYX)."""
    common = {"direction": 0, "window_y": 0, "window_x": 0, "window_side": SIDE, "predicted_iou": 1.0, "ended": None}
    rows = [
        common | {"object": number, "start": z, "slice": z, "mask": to_rle(labels[z] == number)}
        for z in range(len(labels))
        for number in np.unique(labels[z][labels[z] > 0]).tolist()
    ]
    image = ImageFile("volume", "volume", labels.shape, None, "")
    return Tracks(Prompts((image,), pd.DataFrame(columns=XYXY), ()), pd.DataFrame(rows, columns=TRACKS.names))


@pytest.mark.parametrize(("depth", "excess"), [(50.0, 1.15), (10.0, 1.08)])
def test_a_ball_comes_out_larger_by_the_steps_of_its_pixels(depth: float, excess: float) -> None:
    z, y, x = np.indices((SIDE, SIDE, SIDE))
    inside = ((z - 20) * depth) ** 2 + ((y - 20) * 10) ** 2 + ((x - 20) * 10) ** 2 < 150**2
    (area,) = surface_areas(tracks_of(inside.astype(int)), (depth, 10.0, 10.0))
    assert area == pytest.approx(excess * 4 * np.pi * 0.15**2, rel=0.02)


def test_slice_by_slice_it_is_the_mesh_of_the_whole() -> None:
    """One object reaches the end of the volume, and one has a slice without a mask."""
    labels = np.zeros((6, SIDE, SIDE), int)
    labels[3:, 5:15, 8:20] = 1
    labels[4, 12:18, 18:24] = 1
    labels[[0, 1, 3], 20:30, 25:34] = 2
    areas = surface_areas(tracks_of(labels), PIXEL_SIZE)
    for number, area in areas.items():
        corners, faces, *_ = marching_cubes(np.pad(labels == number, 1).astype(float), 0.5, spacing=PIXEL_SIZE)
        assert area == pytest.approx(mesh_surface_area(corners, faces) / 1e6, rel=1e-5)
    assert sorted(areas.index) == [1, 2]
