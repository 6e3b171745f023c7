"""Each box lies whole in one window, with its margin, and there are few windows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline_lib.data.windows import Window, WindowConfig, lay_windows

PLAIN = WindowConfig(side=64, object_share=None, margin=0.25)


def drawn(count: int, shape: tuple[int, int], longest: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw boxes within a slice."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(2, longest, (count, 2))
    corners = rng.random((count, 2)) * (np.array(shape[::-1]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def assert_whole(boxes: NDArray[np.float32], windows: list[Window], owners: NDArray[np.int64], margin: float) -> None:
    """Check that each box lies in its window, with its margin on the left and at the top."""
    for box, owner in zip(boxes, owners, strict=True):
        window, grow = windows[owner], margin * (box[2:] - box[:2])
        low, high = np.array([window.x, window.y]), np.array([window.x, window.y]) + window.side
        assert (low <= np.maximum(0, np.floor(box[:2] - grow) + 1e-3)).all()
        assert (box[2:] <= high).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("config", [PLAIN, WindowConfig(48, 0.2, 0.5), WindowConfig(16, None, 0)])
def test_every_box_lies_whole_in_its_window(config: WindowConfig, seed: int) -> None:
    shape = (300, 400)
    boxes = drawn(150, shape, 60, seed)
    windows, owners = lay_windows(boxes, shape, config)
    assert_whole(boxes, windows, owners, config.margin)
    assert set(owners) == set(range(len(windows)))  # none is empty
    assert windows == sorted(windows, key=lambda window: (window.side, window))  # those of a size are encoded together
    for window in windows:  # none reaches beyond the slice but where that is smaller
        assert window.y + window.side <= max(shape[0], window.side)
        assert window.x + window.side <= max(shape[1], window.side)


def test_neighbours_share_a_window_and_a_lonely_box_is_in_its_middle() -> None:
    boxes = np.array([[100, 100, 110, 110], [120, 105, 135, 120], [300, 200, 310, 210]], np.float32)
    windows, owners = lay_windows(boxes, (400, 400), PLAIN)
    assert owners.tolist() == [0, 0, 1]
    assert windows[1] == Window(y=205 - 32, x=305 - 32, side=64)


def test_a_box_across_a_grids_line_is_not_cut() -> None:
    (window,), _ = lay_windows(np.array([[60, 60, 70, 70]], np.float32), (128, 128), PLAIN)
    assert (window.x, window.y) == (33, 33)


def test_a_large_box_gets_a_larger_window() -> None:
    boxes = np.array([[50, 50, 150, 90], [60, 60, 70, 70]], np.float32)
    windows, owners = lay_windows(boxes, (400, 400), PLAIN)
    large, small = (windows[owner] for owner in owners)
    assert small.side == 64
    assert large.side >= 150  # with its margin
    assert large.side == 182  # 64 · √2³


def test_a_slice_smaller_than_a_window_is_one_window() -> None:
    boxes = drawn(20, (40, 50), 30)
    windows, _ = lay_windows(boxes, (40, 50), WindowConfig(64, None, 0))
    assert windows == [Window(0, 0, 64)]


def test_small_objects_can_be_shown_larger_and_large_ones_smaller() -> None:
    boxes = np.array([[100, 100, 104, 104], [200, 200, 240, 240]], np.float32)
    windows, owners = lay_windows(boxes, (400, 400), WindowConfig(64, 0.25, 0.25))
    sides = [windows[owner].side for owner in owners]
    assert sides[0] < 64 < sides[1]
    shares = [4 / sides[0], 40 / sides[1]]
    assert max(shares) <= 0.25
    assert min(shares) > 0.25 / 2**0.5 - 1e-6


def test_what_a_box_has_beyond_the_image_makes_no_larger_window() -> None:
    boxes = np.array([[-5000, -5000, 5140, 5100]], np.float32)
    (window,), _ = lay_windows(boxes, (100, 140), WindowConfig(64, 0.5, 0.5))
    assert window.side < 2 * 2**0.5 * 140


@pytest.mark.parametrize(("count", "longest"), [(400, 12), (40, 12)])
def test_few_windows_are_laid(count: int, longest: int) -> None:
    """A dense slice has no more windows than a grid has tiles. A sparse one has fewer windows than boxes."""
    shape = (512, 512)
    boxes = drawn(count, shape, longest)
    windows, _ = lay_windows(boxes, shape, PLAIN)
    tiles = {(y // 64, x // 64) for x0, y0, x1, y1 in boxes.astype(int) for y in (y0, y1) for x in (x0, x1)}
    assert len(windows) <= 1.6 * len(tiles)
    assert len(windows) < len(boxes)
