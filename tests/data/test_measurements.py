"""Masks of known size and shape have the right measurements."""

import math

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk, ellipse, line

from pipeline_lib.data.measurements import columns, measurements
from pipeline_lib.data.objects_summary import objects_summary


def drawn(shape, pixels):
    mask = np.zeros(shape, bool)
    mask[pixels] = True
    return mask


def grey_of(mask, value=7):
    return np.full(mask.shape, value, np.uint8)


def test_a_disk_has_the_size_of_a_disk():
    mask = drawn((99, 99), disk((49, 49), 40.5))
    values = measurements(mask, grey_of(mask), (50, 4, 4))
    assert list(values) == columns((50, 4, 4))
    assert values["area"] == mask.sum() == pytest.approx(math.pi * 40.5**2, rel=0.01)
    assert values["perimeter"] == pytest.approx(2 * math.pi * 40.5, rel=0.01)
    for name in "equivalent_diameter", "major_axis", "minor_axis":
        assert values[name] == pytest.approx(81, rel=0.01)
    assert values["circularity"] == pytest.approx(1, abs=0.02)
    assert values["area_nm2"] == 16 * values["area"]
    for name in "perimeter", "equivalent_diameter", "major_axis", "minor_axis":
        assert values[f"{name}_nm"] == pytest.approx(4 * values[name])


def test_pixels_that_are_not_square_stretch_axes_and_have_no_perimeter():
    mask = drawn((99, 99), disk((49, 49), 40))
    values = measurements(mask, grey_of(mask), (50, 8, 4))
    assert values["major_axis_nm"] == pytest.approx(2 * values["minor_axis_nm"], rel=0.01)
    assert values["area_nm2"] == 32 * values["area"]
    assert math.isnan(values["perimeter_nm"])


@pytest.mark.parametrize(
    ("end", "degrees"),
    [((40, 79), 0), ((0, 79), 45), ((0, 40), 90), ((79, 79), 135)],  # row and column; up is a lower row
    ids=str,
)
def test_the_orientation_counts_from_the_right_against_the_clock(end, degrees):
    start = (2 * 40 - end[0], 2 * 40 - end[1])
    mask = drawn((81, 81), line(*start, *end))
    angle = measurements(mask, grey_of(mask), None)["orientation_deg"]
    assert min(abs(angle - degrees), 180 - abs(angle - degrees)) < 1.5


def test_an_ellipse_has_its_axes():
    mask = drawn((99, 199), ellipse(49, 99, 30, 80))
    values = measurements(mask, grey_of(mask), None)
    assert values["major_axis"] == pytest.approx(160, rel=0.01)
    assert values["minor_axis"] == pytest.approx(60, rel=0.01)
    assert set(values) == set(columns(None))


def test_holes_count_as_edge_and_not_as_area():
    solid = drawn((99, 99), disk((49, 49), 40))
    ring = solid & ~drawn((99, 99), disk((49, 49), 20))
    whole, values = (measurements(mask, grey_of(mask), None) for mask in (solid, ring))
    assert values["area"] == ring.sum() < whole["area"]
    assert values["perimeter"] == pytest.approx(1.5 * whole["perimeter"], rel=0.02)


def test_the_border_of_the_image_counts_as_edge():
    mask = np.ones((40, 40), bool)
    at_border, within = (measurements(each, grey_of(each), None) for each in (mask, np.pad(mask, 9)))
    assert at_border == pytest.approx(within)


def test_grey_is_that_of_the_object_alone():
    mask = drawn((1, 4), (0, [0, 1]))
    values = measurements(mask, np.array([[10, 20, 200, 200]], np.uint8), None)
    assert (values["grey_mean_8bit"], values["grey_std_8bit"]) == (15, 5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2)])
def test_a_few_pixels_can_be_measured(shape):
    mask = np.ones(shape, bool)
    values = measurements(mask, grey_of(mask), (50, 4, 4))
    assert np.isfinite(list(values.values())).all()


def test_an_empty_mask_has_no_area_and_nothing_else():
    values = measurements(np.zeros((3, 3), bool), np.zeros((3, 3), np.uint8), (50, 4, 4))
    assert {name for name, value in values.items() if value == 0} == {"area", "area_nm2"}
    assert all(math.isnan(value) for name, value in values.items() if not name.startswith("area"))


def test_the_summary_counts_by_image_and_class():
    table = pd.DataFrame(
        {
            "image": ["a", "a", "a", "a", "b"],
            "label": ["cell", "cell", "cell", "", "cell"],
            "flags": ["", "unstable", "empty", "skipped: has no area", ""],
            "area": pd.array([10, 20, 0, None, 7], "Int64"),
            "perimeter": [1.0, 3.0, np.nan, np.nan, 5.0],
            "orientation_deg": [1.0, 179.0, np.nan, np.nan, 4.0],
        }
    )
    values = objects_summary(table).set_index(["image", "label"])
    assert values.index.tolist() == [("a", ""), ("a", "cell"), ("b", "cell")]
    assert values.loc[("a", "cell"), ["boxes", "objects", "flagged", "skipped"]].tolist() == [3, 2, 2, 0]
    assert values.loc[("a", ""), ["boxes", "objects", "flagged", "skipped"]].tolist() == [1, 0, 0, 1]
    assert values.loc[("a", "cell"), ["area_sum", "area_mean", "perimeter_mean"]].tolist() == [30, 15, 2]
    assert values.loc[("a", "cell"), "area_std"] == pytest.approx(50**0.5)
    assert np.isnan(values.loc[("b", "cell"), "area_std"])
    assert not [name for name in values if name.startswith("orientation")]
