"""Stores hold what went in. Components are counted by hand. Memory and disk have real limits."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import zarr
from helpers.stages import run_stage
from numpy.typing import ArrayLike
from ome_zarr_models.v05 import Image

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import files_of
from pipeline_lib.data.splits import split_slices
from pipeline_lib.data.tiling import components, magnify, magnify_labels
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import BinaryLabels, InstanceLabels, MembraneLabels, Split
from pipeline_lib.stages.convert import convert
from pipeline_lib.stages.raw import raw

INSTANCES = InstanceLabels(kind="instances")
BINARY = BinaryLabels(kind="binary", foreground=255)
MEMBRANE = MembraneLabels(kind="membrane", membrane=0)
DATASET = {
    "labels": {"kind": "instances"},
    "minimum_area": 1,
    "pixel_size": [50, 4, 4],
    "grey_range": None,
    "tile": None,
}


def write_manifest(folder: Path, *volumes: tuple[ArrayLike, ArrayLike, dict[str, Sequence[int]]]) -> str:
    """Write volumes (images, labels, split) as Zarr arrays, and the manifest that `raw` would write."""
    entries = []
    for number, (images, labels, split) in enumerate(volumes):
        paths = {name: str(folder / f"{name}{number}.zarr") for name in ("images", "labels")}
        for path, data in zip(paths.values(), (images, labels), strict=True):
            stack = np.asarray(data)
            zarr.create_array(path, data=stack, chunks=(1, *stack.shape[1:]))
        count, *size = np.shape(images)
        slices = split_slices("a stack", [""] * count, Split.model_validate(split))
        files = {name: {"count": len(files_of(path)), "names": []} for name, path in paths.items()}
        entries.append(paths | {"files": files, "sizes": [size] * count, "slices": slices})
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"volumes": entries}))
    return str(manifest)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 10, 14), np.uint8)


def converted(folder: Path, *volumes: Any, **dataset: Any) -> Store:
    path = folder / "lab.zarr"
    run_stage(convert, manifest=write_manifest(folder, *volumes), store=str(path), **(DATASET | dataset))
    return Store.open(path)


# What the store holds


def test_a_store_gives_back_its_images(tmp_path: Path, images: np.ndarray) -> None:
    store = converted(tmp_path, (images, np.ones_like(images), {"test": [0, 6]}))
    np.testing.assert_array_equal([store.pixels(i) for i in range(len(store))], images)
    assert store.pixels(0).dtype == np.uint8


def test_of_each_range_every_so_many_th_slice_is_taken() -> None:
    split = {"test": [5, 11], "train": [0, 5]}
    assert split_slices("a stack", [""] * 11, Split.model_validate(split), every=2) == [
        *((index, "train") for index in (0, 2, 4)),
        *((index, "test") for index in (5, 7, 9)),
    ]


def write_micrographs(folder: Path, *sizes: tuple[int, int]) -> str:
    """Write images of these sizes, each with an object, and run `raw` on them."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (height, width) in enumerate(sizes):
        labels = np.zeros((height, width), np.uint16)
        labels[1:-1, 1:-1] = 300
        iio.imwrite(folder / f"images/m{number}.png", rng.integers(0, 256, (height, width), np.uint8))
        iio.imwrite(folder / f"labels/m{number}.png", labels)
    split = {"test": ["m0*"], "validation": ["m1.png"], "train": "rest"}
    volume = {"images": "images", "labels": "labels", "split": split}
    dataset = {"source": {"kind": "path", "folder": str(folder)}, "volumes": [volume], "grey_range": None}
    run_stage(raw, manifest=str(folder / "manifest.json"), **dataset)
    return str(folder / "manifest.json")


SIZES = [(20, 30), (9, 12), (40, 17), (16, 16)]


def test_images_of_different_sizes_are_tiled_each_by_itself(tmp_path: Path) -> None:
    manifest = write_micrographs(tmp_path, *SIZES)
    run_stage(convert, manifest=manifest, store=str(tmp_path / "lab.zarr"), **(DATASET | {"tile": 16}))
    store = Store.open(tmp_path / "lab.zarr")
    assert [each.size for each in store.slices] == SIZES
    assert [each.split for each in store.slices] == ["test", "validation", "train", "train"]
    tiles = [4, 1, 6, 1]
    assert len(store) == sum(tiles)
    assert [store.origin(i)[0] for i in range(len(store))] == [z for z, count in enumerate(tiles) for _ in range(count)]
    assert [store.shape(i) for i in range(5)] == [(16, 16), (16, 14), (4, 16), (4, 14), (9, 12)]
    for z, size in enumerate(SIZES):
        whole = np.zeros(size, np.uint8)
        for i in range(len(store)):
            where, y, x = store.origin(i)
            if where == z:
                whole[y : y + store.shape(i)[0], x : x + store.shape(i)[1]] = store.pixels(i)
        np.testing.assert_array_equal(whole, iio.imread(tmp_path / f"images/m{z}.png"))
    areas = [np.count_nonzero(store.objects(i)) for i in range(len(store))]
    assert sum(areas) == sum((height - 2) * (width - 2) for height, width in SIZES)


def test_whole_slices_of_different_sizes_are_in_the_frame_of_the_largest_sides(tmp_path: Path) -> None:
    manifest = write_micrographs(tmp_path, *SIZES)
    run_stage(convert, manifest=manifest, store=str(tmp_path / "lab.zarr"), **DATASET)
    store = Store.open(tmp_path / "lab.zarr")
    assert store.tile_shape == (40, 30)
    assert [store.shape(i) for i in range(len(store))] == SIZES


def test_a_magnified_data_set_has_larger_images_smaller_pixels_and_the_same_objects(tmp_path: Path) -> None:
    manifest = write_micrographs(tmp_path, *SIZES)
    run_stage(convert, manifest=manifest, store=str(tmp_path / "lab.zarr"), **(DATASET | {"magnification": 2.0}))
    store = Store.open(tmp_path / "lab.zarr")
    assert [each.size for each in store.slices] == [(2 * height, 2 * width) for height, width in SIZES]
    np.testing.assert_array_equal(store.pixels(1), magnify(iio.imread(tmp_path / "images/m1.png"), 2.0))
    assert np.count_nonzero(store.objects(1)) == 4 * 7 * 10
    record = zarr.open_group(tmp_path / "lab.zarr", mode="r").attrs["ome"]
    assert record["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == [50, 2, 2]


def test_magnified_labels_lie_on_their_magnified_image() -> None:
    labels = np.zeros((11, 7), np.uint32)
    labels[3:6, 2:5] = 2**32 - 1
    for factor in (0.5, 1.5, 3.0):
        grey = magnify(np.where(labels > 0, 255, 0).astype(np.uint8), factor)
        larger = magnify_labels(labels, factor)
        assert larger.shape == grey.shape
        assert set(np.unique(larger)) == {0, 2**32 - 1}
        assert np.mean((larger > 0) == (grey > 127)) > 0.85


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"test": ["n*"]}, r"no file matches 'n\*' of split test\. The files are m0\.png, m1\.png"),
        ({"test": ["m0", "m1"], "train": ["m1"]}, r"slice 1 \(m1\.png\) is both in train and in test"),
        ({"test": ["m*"], "train": "rest"}, "train is `rest`, but the other splits name all 2 files"),
    ],
)
def test_a_split_by_names_says_what_is_wrong(split: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^folder: {message}"):
        split_slices("folder", ["m0.png", "m1.png"], Split.model_validate(split))


def test_a_stack_in_one_file_has_no_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a range of slices, because this is one file, but test names files"):
        split_slices("stack.tif", ["", ""], Split.model_validate({"test": ["m0"]}))


def test_slices_of_no_split_are_left_out_and_the_others_keep_their_order(tmp_path: Path, images: np.ndarray) -> None:
    labels = np.ones_like(images)
    one, two = (images, labels, {"test": [4, 5], "train": [0, 2]}), (images, labels, {"validation": [5, 6]})
    store = converted(tmp_path, one, two)
    assert [(s.split, s.volume, s.index) for s in store.slices] == [
        ("train", 0, 0),
        ("train", 0, 1),
        ("test", 0, 4),
        ("validation", 1, 5),
    ]
    np.testing.assert_array_equal([store.pixels(i) for i in range(4)], images[[0, 1, 4, 5]])


def test_tiles_cut_slices_without_overlap_and_are_smaller_at_the_edges(tmp_path: Path, images: np.ndarray) -> None:
    store = converted(tmp_path, (images, np.ones_like(images), {"train": [0, 1], "test": [1, 2]}), tile=8)
    assert store.tile_shape == (8, 8)
    assert [store.origin(i) for i in range(5)] == [(0, 0, 0), (0, 0, 8), (0, 8, 0), (0, 8, 8), (1, 0, 0)]
    assert [store.shape(i) for i in range(4)] == [(8, 8), (8, 6), (2, 8), (2, 6)]
    assert [store.split(i) for i in range(len(store))] == ["train"] * 4 + ["test"] * 4
    np.testing.assert_array_equal(store.pixels(7), images[1, 8:, 8:])
    assert store.objects(7).shape == store.shape(7)


def test_a_slice_can_be_smaller_than_a_tile(tmp_path: Path, images: np.ndarray) -> None:
    store = converted(tmp_path, (images, np.ones_like(images), {"test": [0, 1]}), tile=64)
    assert (len(store), store.tile_shape, store.pixels(0).shape) == (1, (64, 64), (10, 14))
    np.testing.assert_array_equal(store.pixels(0), images[0])


def test_an_object_that_crosses_a_tile_border_is_an_object_in_each_tile(tmp_path: Path) -> None:
    labels = np.zeros((1, 4, 8), np.uint16)
    labels[0, 1:3, 2:7] = 500
    store = converted(tmp_path, (np.zeros_like(labels, np.uint8), labels, {"test": [0, 1]}), tile=4)
    np.testing.assert_array_equal(store.objects(0), labels[0, :, :4] > 0)
    np.testing.assert_array_equal(store.objects(1), labels[0, :, 4:] > 0)


def test_an_object_free_slice_is_just_empty(tmp_path: Path, images: np.ndarray) -> None:
    store = converted(tmp_path, (images, np.zeros_like(images), {"test": [0, 1]}))
    assert store.objects(0).max() == 0


def test_greys_of_the_range_are_spread_over_8_bits_and_those_beyond_are_clipped(tmp_path: Path) -> None:
    images = np.array([[[-np.inf, -5, -1, 0, 1.4, 3, 4, np.inf]]], np.float32)  # 51 grey levels per unit
    store = converted(tmp_path, (images, np.ones((1, 1, 8), np.uint8), {"test": [0, 1]}), grey_range=[-1, 4])
    assert store.pixels(0).tolist() == [[0, 0, 0, 51, 122, 204, 255, 255]]


def test_16_bit_greys_do_not_overflow(tmp_path: Path) -> None:
    images = np.array([[[0, 1000, 33000, 65000, 65535]]], np.uint16)
    store = converted(tmp_path, (images, np.ones((1, 1, 5), np.uint8), {"test": [0, 1]}), grey_range=[1000, 65000])
    assert store.pixels(0).tolist() == [[0, 0, 128, 255, 255]]


def test_a_float_image_that_reaches_1_is_not_left_dark(tmp_path: Path) -> None:
    images = np.array([[[0, 0.2, 1.0, 0.2, 0]]])
    store = converted(tmp_path, (images, np.ones((1, 1, 5), np.uint8), {"test": [0, 1]}), grey_range=[0, 1])
    assert store.pixels(0).tolist() == [[0, 51, 255, 51, 0]]


def test_an_independent_package_finds_valid_ome_zarr_0_5(tmp_path: Path, images: np.ndarray) -> None:
    converted(tmp_path, (images, np.ones_like(images), {"test": [0, 6]}), tile=8)
    model = Image.from_zarr(zarr.open_group(tmp_path / "lab.zarr", mode="r", zarr_format=3))
    assert model.ome_attributes.version == "0.5"
    axes = model.ome_attributes.multiscales[0].axes
    assert [(axis.name, axis.type, axis.unit) for axis in axes] == [(name, "space", "nanometer") for name in "zyx"]
    assert model.labels is not None
    label = model.labels.get_image_labels_group("objects").ome_attributes
    assert label.image_label is not None
    assert label.image_label.source is not None
    assert label.image_label.source.image == "../../"
    for multiscale in (model.ome_attributes.multiscales[0], label.multiscales[0]):
        (scale,) = multiscale.datasets[0].coordinateTransformations
        assert scale.scale == [50, 4, 4]


def test_other_programs_read_the_arrays_with_a_chunk_per_tile(tmp_path: Path, images: np.ndarray) -> None:
    converted(tmp_path, (images, np.ones_like(images), {"test": [0, 6]}), tile=8)
    pixels = da.from_zarr(tmp_path / "lab.zarr", component="0")
    assert pixels.chunks == ((1,) * 6, (8, 2), (8, 6))
    np.testing.assert_array_equal(pixels.compute(), images)
    assert da.from_zarr(tmp_path / "lab.zarr", component="labels/objects/0").dtype == np.uint32


def test_two_runs_write_the_same_bytes(tmp_path: Path, images: np.ndarray) -> None:
    manifest = write_manifest(tmp_path, (images, images % 3, {"test": [0, 6]}))
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name / "lab.zarr"
        run_stage(convert, manifest=manifest, store=str(folder), **(DATASET | {"tile": 8}))
        written.append({str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()})
    assert len(written[0]) > 50
    assert written[0] == written[1]


# Components


def test_touching_cells_with_different_ids_stay_apart() -> None:
    assert components(np.array([[7, 7, 3], [7, 3, 3]]), INSTANCES, 1).tolist() == [[1, 1, 2], [1, 2, 2]]


def test_no_background_at_all_is_one_object_per_id() -> None:
    assert components(np.full((2, 3), 9), INSTANCES, 1).tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("rule", [BINARY, MEMBRANE])
def test_a_tile_that_is_all_inside_is_one_object(rule: BinaryLabels | MembraneLabels) -> None:
    assert components(np.full((2, 3), 255), rule, 1).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_an_id_in_two_pieces_is_two_objects() -> None:
    assert components(np.array([[4, 0, 4]]), INSTANCES, 1).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("rule", [BINARY, MEMBRANE, INSTANCES])
def test_pixels_that_touch_at_a_corner_are_not_connected(rule: BinaryLabels | MembraneLabels) -> None:
    assert components(np.array([[255, 0], [0, 255]]), rule, 1).tolist() == [[1, 0], [0, 2]]


def test_one_pixel_is_an_object_where_the_minimum_is_one() -> None:
    assert components(np.array([[0, 0, 255]]), BINARY, 1).tolist() == [[0, 0, 1]]


def test_components_below_the_minimum_are_erased_and_the_others_keep_their_numbers() -> None:
    labels = np.array([[5, 0, 5, 5], [0, 0, 5, 0], [5, 5, 0, 0]])
    assert components(labels, INSTANCES, 3).tolist() == [[0, 0, 2, 2], [0, 0, 2, 0], [0, 0, 0, 0]]


def test_a_background_below_the_minimum_stays_background() -> None:
    assert components(np.array([[1, 1, 0, 2, 2]]), INSTANCES, 2).tolist() == [[1, 1, 0, 2, 2]]


def test_objects_at_the_border_are_whole() -> None:
    labels = np.array([[255, 0, 255], [0, 0, 0], [255, 255, 0]])
    assert components(labels, BINARY, 1).tolist() == [[1, 0, 2], [0, 0, 0], [3, 3, 0]]


def test_only_the_foreground_value_is_inside() -> None:
    assert components(np.array([[255, 254, 1, 0]]), BINARY, 1).tolist() == [[1, 0, 0, 0]]


def test_all_but_the_membrane_is_inside() -> None:
    assert components(np.array([[255, 254, 0, 1]]), MEMBRANE, 1).tolist() == [[1, 1, 0, 2]]


def test_ids_are_wide_enough_for_a_tile_of_more_than_65535_objects() -> None:
    ids = np.arange(1, 300 * 300 + 1).reshape(300, 300)
    np.testing.assert_array_equal(components(ids, INSTANCES, 1), ids)


# What can go wrong


@pytest.fixture
def nan_manifest(tmp_path: Path) -> str:
    images = np.zeros((6, 10, 14), np.float32)
    images[4, 3, 3] = np.nan
    return write_manifest(tmp_path, (images, np.ones((6, 10, 14), np.uint8), {"train": [0, 4], "test": [4, 6]}))


def test_a_pixel_that_is_not_a_number_is_an_error_that_names_file_and_slice(nan_manifest: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images0\.zarr: .* slice 4 has NaN"):
        run_stage(
            convert, manifest=nan_manifest, store=str(tmp_path / "out/a.zarr"), **(DATASET | {"grey_range": [0, 1]})
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failed_run_keeps_the_store_of_the_run_before(nan_manifest: str, tmp_path: Path) -> None:
    (tmp_path / "out/a.zarr").mkdir(parents=True)
    with pytest.raises(DataError):
        run_stage(
            convert, manifest=nan_manifest, store=str(tmp_path / "out/a.zarr"), **(DATASET | {"grey_range": [0, 1]})
        )
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["a.zarr"]


RUN = """
import json, sys
from pipeline_lib.stages.convert import convert
from pipeline_lib.settings.messages import arguments_of
manifest, store, dataset = sys.argv[1:]
convert(manifest=manifest, store=store, **arguments_of(convert, json.loads(dataset)))
print(open("/proc/self/status").read())
"""


def run_convert(manifest: str, store: Path, **limits: Any) -> subprocess.CompletedProcess[str]:
    """Convert in a process of its own, which prints its status at the end."""
    command = [sys.executable, "-c", RUN, manifest, str(store), json.dumps(DATASET | {"tile": 512})]
    return subprocess.run(command, capture_output=True, text=True, **limits)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses files larger than 64 KiB. Metadata and objects fit, but a chunk of images does not."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 1024, 1024), np.uint8)
    manifest = write_manifest(tmp_path, (noise, np.ones_like(noise), {"test": [0, 8]}))
    limit = resource.RLIMIT_FSIZE, (65536, 65536)
    run = run_convert(manifest, tmp_path / "out/full.zarr", preexec_fn=lambda: resource.setrlimit(*limit))
    assert run.returncode == 1
    assert "OSError: [Errno 27] File too large" in run.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak memory is read from Linux' /proc")
def test_memory_is_bounded_by_the_slice_and_not_by_the_stack(tmp_path: Path) -> None:
    """Convert 10 and 80 slices of 1 MiB with labels of 1 MiB. All 80 with their objects would take 0.5 GiB.

    The peak is VmHWM, because `ru_maxrss` of a child starts from the memory of its parent.
    """
    labels = np.kron(np.arange(64, dtype=np.uint8).reshape(1, 8, 8), np.ones((128, 128), np.uint8))
    peaks = {}
    for count in (10, 80):
        folder = tmp_path / str(count)
        stack = np.broadcast_to(labels, (count, 1024, 1024))
        run = run_convert(write_manifest(folder, (stack, stack, {"test": [0, count]})), folder / "out.zarr", check=True)
        (peaks[count],) = map(int, re.findall(r"VmHWM:\s+(\d+) kB", run.stdout))
        assert len(Store.open(folder / "out.zarr")) == 4 * count
    print(f"peak memory in KiB: {peaks}")
    assert peaks[80] < 1.2 * peaks[10]


@pytest.mark.parametrize("rule", [{"kind": "membrane", "membrane": 1}, {"kind": "binary", "foreground": 1}])
def test_a_label_value_that_never_occurs_is_an_error(tmp_path: Path, images: np.ndarray, rule: dict[str, Any]) -> None:
    labels = np.where(images % 2, np.uint8(0), np.uint8(255))
    manifest = write_manifest(tmp_path, (images, labels, {"test": [0, len(images)]}))
    with pytest.raises(DataError, match=rf"labels0\.zarr: expected the value 1 .*{rule['kind']}"):
        run_stage(convert, manifest=manifest, store=str(tmp_path / "out.zarr"), **(DATASET | {"labels": rule}))
    assert not (tmp_path / "out.zarr").exists()
