"""The stage `raw` reads every layout, and refuses every bad input before anything is computed."""

import hashlib
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.stages import run_stage

from pipeline_lib.data import download
from pipeline_lib.data.readers import open_stack
from pipeline_lib.data.volumes import read_volumes
from pipeline_lib.errors import DataError, DownloadError
from pipeline_lib.stages.raw import raw

SYNTHETIC = {"kind": "synthetic", "slices": 3, "size": [64, 80], "seed": 3}
SPLIT = {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}
VOLUMES = {
    "lab": [{"images": "images", "labels": "labels", "split": SPLIT}],
    "isbi2012": [{"images": "train-volume.tif", "labels": "train-labels.tif", "split": SPLIT}],
    "epfl": [
        {"images": f"{name}.tif", "labels": f"{name}_groundtruth.tif", "split": {split: [0, 3]}}
        for name, split in (("training", "train"), ("testing", "test"))
    ],
}
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 30), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 9, (6, 5, 6), np.uint16).repeat(4, 1).repeat(5, 2)
NOBODY = "http://127.0.0.1:9/file"  # an address where nobody answers
ISBI2012 = Path(os.environ.get("LOOSEBOX_DATA", Path(__file__).parents[3] / "shared/data")) / "isbi2012"


def run(folder, source, volumes, grey_range=None):
    """Run the stage, and return the volumes of its manifest."""
    manifest = folder / "manifest.json"
    run_stage(raw, manifest=str(manifest), source=source, volumes=volumes, grey_range=grey_range)
    return json.loads(manifest.read_text())["volumes"]


def generate(folder, layout, **changes):
    """Return the images and labels (ZYX) of each generated volume."""
    volumes = run(folder, {**SYNTHETIC, "layout": layout, **changes}, VOLUMES[layout])
    return [[open_stack(str(folder / volume[stack])).compute() for stack in ("images", "labels")] for volume in volumes]


class Lab:
    """A user's folder with two stacks of six slices; a test spoils one thing in it and runs the stage."""

    def __init__(self, folder):
        self.folder = folder / "lab"
        self.out = folder / "out"
        self.folder.mkdir()
        self.volumes = [{"images": "images.tif", "labels": "labels.tif", "split": {"train": [0, 3], "test": [3, 6]}}]
        self.write(images=IMAGES, labels=LABELS)

    def write(self, **stacks):
        for name, stack in stacks.items():
            tifffile.imwrite(self.folder / f"{name}.tif", stack)

    def run(self, grey_range=None):
        return run(self.out, {"kind": "path", "folder": str(self.folder)}, self.volumes, grey_range)

    def refuses(self, message, kind=DataError):
        with pytest.raises(kind, match=message):
            self.run()
        return not list(self.out.glob("*"))


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


# What the sources bring


def test_the_lab_layout_is_a_folder_of_grey_slices_and_one_of_instances(tmp_path):
    ((images, labels),) = generate(tmp_path, "lab")
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.*")) == [
        *(f"images/{index:04}.png" for index in range(3)),
        *(f"labels/{index:04}.tif" for index in range(3)),
        "manifest.json",
    ]
    assert (images.shape, images.dtype) == ((3, 64, 80), np.uint8)
    assert (labels.shape, labels.dtype) == ((3, 64, 80), np.uint16)
    assert len(np.unique(labels[0])) > 3


def test_the_isbi2012_layout_is_one_stack_with_membrane_labels(tmp_path):
    ((images, labels),) = generate(tmp_path, "isbi2012")
    assert (images.shape, images.dtype) == ((3, 64, 80), np.uint8)
    assert (labels.shape, labels.dtype) == ((3, 64, 80), np.uint8)
    assert set(np.unique(labels)) == {0, 255}
    assert images[labels == 0].mean() < images[labels == 255].mean()  # membranes are dark


def test_the_epfl_layout_is_two_volumes_with_mitochondria_labels(tmp_path):
    (training, training_labels), (testing, testing_labels) = generate(tmp_path, "epfl", size=[160, 160])
    for labels in training_labels, testing_labels:
        assert (labels.shape, labels.dtype) == ((3, 160, 160), np.uint8)
        assert set(np.unique(labels)) == {0, 255}
        assert (labels == 255).mean() < 0.5
    assert not any(np.array_equal(a, b) for a in training for b in testing)


def test_layouts_of_one_seed_show_the_same_slices(tmp_path):
    ((lab_images, instances),) = generate(tmp_path / "a", "lab")
    ((isbi_images, membranes),) = generate(tmp_path / "b", "isbi2012")
    np.testing.assert_array_equal(lab_images, isbi_images)
    np.testing.assert_array_equal(instances > 0, membranes == 255)


@pytest.mark.parametrize("layout", VOLUMES)
def test_generated_files_are_the_same_bytes_each_time(tmp_path, layout):
    generate(tmp_path / "a", layout)
    generate(tmp_path / "b", layout)
    first, second = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*") if file.name != "manifest.json"}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second


def test_another_seed_gives_other_slices(tmp_path):
    ((images, _),) = generate(tmp_path / "a", "lab")
    ((others, _),) = generate(tmp_path / "b", "lab", seed=4)
    assert not any(np.array_equal(a, b) for a in images for b in others)


def test_more_slices_leave_the_first_ones_as_they_are(tmp_path):
    ((images, _),) = generate(tmp_path / "a", "lab")
    ((more, _),) = generate(tmp_path / "b", "lab", slices=4)
    np.testing.assert_array_equal(images, more[:3])


def test_a_users_files_are_left_where_they_are(lab):
    (volume,) = lab.run()
    files = volume.pop("files")
    assert {part: entry["count"] for part, entry in files.items()} == {"images": 1, "labels": 1}
    assert volume == {
        "images": str(lab.folder / "images.tif"),
        "labels": str(lab.folder / "labels.tif"),
        "sizes": [[20, 30]] * 6,
        "slices": [[index, "train" if index < 3 else "test"] for index in range(6)],
    }
    assert {file.name for file in lab.out.iterdir()} == {"manifest.json"}
    (lab.folder / "labels.tif").touch()
    assert lab.run()[0]["files"] == files
    tifffile.imwrite(lab.folder / "labels.tif", LABELS[::-1])
    assert lab.run()[0]["files"]["images"] == files["images"]
    assert lab.run()[0]["files"]["labels"] != files["labels"]


def test_a_relative_folder_becomes_absolute_in_the_manifest(lab, monkeypatch):
    monkeypatch.chdir(lab.folder.parent)
    (volume,) = run(lab.out, {"kind": "path", "folder": "lab"}, lab.volumes)
    assert volume["images"] == str(lab.folder / "images.tif")


def test_a_downloaded_archive_is_unpacked_beside_the_manifest(lab):
    archive = Path(shutil.make_archive(str(lab.out / "lab"), "zip", lab.folder))  # put there by hand
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    source = {"kind": "download", "files": [{"url": NOBODY, "checksum": checksum, "name": "lab.zip", "unpack": True}]}
    lab.volumes[0].update(images="lab/images.tif", labels="lab/labels.tif")
    (volume,) = run(lab.out, source, lab.volumes)
    assert volume["images"] == "lab/images.tif"
    np.testing.assert_array_equal(open_stack(str(lab.out / volume["images"])).compute(), IMAGES)


def test_a_download_without_network_says_what_to_put_where(lab, monkeypatch):
    monkeypatch.setattr(download, "BACK_OFF", ())
    file = {"url": NOBODY, "checksum": "sha256:00", "name": "images.tif", "unpack": False}
    source = {"kind": "download", "files": [file]}
    with pytest.raises(DownloadError, match=rf"save it by hand as images\.tif in the folder {lab.out}"):
        run(lab.out, source, lab.volumes)
    assert not list(lab.out.glob("*"))


# What is refused


@pytest.mark.parametrize("name", ["images.tif", "labels.tif"])
def test_a_missing_file_is_named(lab, name):
    (lab.folder / name).unlink()
    assert lab.refuses(f"{lab.folder}/{name}: there is no such file")


@pytest.mark.parametrize("name", ["images.tif", "labels.tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_tiff_is_named(lab, name, share):
    data = (lab.folder / name).read_bytes()
    (lab.folder / name).write_bytes(data[: int(share * len(data))])
    assert lab.refuses(f"{lab.folder}/{name}: .*truncated")


def test_a_tiff_whose_last_slice_is_cut_is_named(lab):
    lab.write(images=IMAGES)
    with tifffile.TiffWriter(lab.folder / "images.tif") as writer:
        for image in IMAGES:
            writer.write(image, contiguous=False)
    with tifffile.TiffFile(lab.folder / "images.tif") as tiff:
        end = tiff.pages[-1].dataoffsets[0] + 10
    os.truncate(lab.folder / "images.tif", end)
    assert lab.refuses(f"{lab.folder}/images.tif: cannot be read")


def test_label_slices_of_another_shape_are_an_error(lab):
    lab.write(labels=LABELS[:, :, 1:])
    assert lab.refuses(r"labels\.tif: .* 6 slices of 20 × 30 pixels, .*; found 6 slices of 20 × 29")


def test_another_number_of_label_slices_is_an_error(lab):
    lab.write(labels=LABELS[1:])
    assert lab.refuses(r"labels\.tif: .* 6 slices of 20 × 30 pixels, .*; found 5 slices of 20 × 30")


@pytest.mark.parametrize("name", ["images", "labels"])
def test_rgb_where_grey_is_expected_is_an_error(lab, name):
    lab.write(**{name: np.arange(6 * 20 * 30 * 3, dtype=np.uint8).reshape(6, 20, 30, 3)})
    assert lab.refuses(rf"{name}\.tif: expected grey slices.* colour")


def test_float_labels_are_an_error(lab):
    lab.write(labels=LABELS.astype(np.float32))
    assert lab.refuses(r"labels\.tif: expected labels with whole numbers, found float32")


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_images_that_are_not_8_bit_need_a_grey_range(lab, dtype):
    lab.write(images=IMAGES.astype(dtype))
    assert lab.refuses(rf"images\.tif: expected 8-bit images, found {np.dtype(dtype)}\. Set `grey_range")
    assert lab.run(grey_range=[0, 255])


@pytest.mark.parametrize("part", [[-1, 2], [3, 3], [4, 3]])
def test_a_range_that_is_none_is_an_error(lab, part):
    lab.volumes[0]["split"] = {"train": [0, 3], "test": part}
    assert lab.refuses(r"volumes\.0\.split\.test is \[.*\], expected null, or \[start, stop\], two integers")


@pytest.mark.parametrize("part", [[5, 7], [6, 7]])
def test_a_range_out_of_the_stack_is_an_error(lab, part):
    lab.volumes[0]["split"] = {"train": [0, 3], "test": part}
    assert lab.refuses(rf"images\.tif: expected a range within its 6 slices, but test is \[{part[0]}, {part[1]}\)")


def test_a_stack_that_the_splits_are_not_for_is_an_error(lab):
    lab.volumes[0] |= {"slices": 5, "split": {"train": [0, 3], "test": [3, 5]}}
    assert lab.refuses(r"images\.tif: expected 5 slices, as the key `slices` .* says, found 6\. Use the stack")


def test_a_slice_in_two_splits_is_an_error(lab):
    lab.volumes[0]["split"] = {"train": [0, 4], "test": [3, 6]}
    assert lab.refuses(r"volumes\.0\.split is .*, but slices 3 to 4 are in both train and test")


def test_a_slice_in_two_splits_through_two_volumes_is_an_error(lab):
    lab.volumes[0]["split"] = {"train": [0, 4]}
    lab.volumes.append({**lab.volumes[0], "split": {"test": [3, 6]}})
    assert lab.refuses(r"images\.tif: slice 3 is both in train and in test")


def test_images_and_labels_of_different_sizes_are_an_error_that_names_the_file(lab):
    for part, sizes in (("in", [(20, 30), (8, 9)]), ("out", [(20, 30), (9, 8)])):
        (lab.folder / part).mkdir()
        for number, size in enumerate(sizes):
            tifffile.imwrite(lab.folder / f"{part}/{number}.tif", np.zeros(size, np.uint8))
    lab.volumes = [{"images": "in", "labels": "out", "split": {"train": [0, 1], "test": [1, 2]}}]
    assert lab.refuses(r"out: expected 8 × 9 pixels in 1\.tif, as 1\.tif of .*/in has; found 9 × 8")


def test_a_full_disk_stops_the_run_and_leaves_nothing(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, unlimited[1]))  # bytes a file; a slice has 65 536
    try:
        with pytest.raises(OSError, match="written"):
            generate(tmp_path, "isbi2012", size=[256, 256])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_the_former_manifest_alone(lab):
    lab.run()
    before = (lab.out / "manifest.json").read_bytes()
    (lab.folder / "labels.tif").unlink()
    with pytest.raises(DataError):
        lab.run()
    assert (lab.out / "manifest.json").read_bytes() == before


def test_a_lost_file_is_named_with_the_command_that_brings_it_back(tmp_path):
    generate(tmp_path, "lab")
    (tmp_path / "labels/0001.tif").unlink()
    with pytest.raises(DataError, match=r"labels: 0001\.tif is missing since .* `snakemake --forcerun raw`"):
        read_volumes(tmp_path / "manifest.json")


# Real slices


@pytest.mark.skipif(not ISBI2012.is_dir(), reason=f"the ISBI 2012 stacks are not in {ISBI2012} (LOOSEBOX_DATA)")
def test_the_isbi_2012_stacks_are_brought_as_they_are(tmp_path):
    split = {"train": [0, 20], "validation": [20, 25], "test": [25, 30]}
    volumes = [{"images": "train-volume.tif", "labels": "train-labels.tif", "split": split}]
    (volume,) = run(tmp_path, {"kind": "path", "folder": str(ISBI2012)}, volumes)
    assert volume["sizes"] == [[512, 512]] * 30
    labels = open_stack(volume["labels"])
    assert set(np.unique(labels[29].compute())) == {0, 255}
    np.testing.assert_array_equal(labels[29].compute(), tifffile.imread(volume["labels"], key=29))


def write_slices(folder, names):
    folder.mkdir()
    for number, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full((20, 30), number, np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "wrong"),
    [
        (["0.tif", "1.tif", "2.tif", "4.tif"], ["0.tif", "1.tif", "3.tif", "4.tif"], "3.tif would belong to 2.tif"),
        (["s1.tif", "s2.tif"], ["mask0002.tif", "mask0003.tif"], "mask0002.tif would belong to s1.tif"),
        (["00.tif", "01.tif"], ["labels00000000.tif", "labels00000001.tif"], None),
        (["a.tif", "b.tif"], ["x.tif", "y.tif"], None),
    ],
)
def test_slices_and_labels_are_paired_by_their_numbers(lab, images, labels, wrong):
    write_slices(lab.folder / "in", images)
    write_slices(lab.folder / "out", labels)
    volume = {"images": "in", "labels": "out", "split": {"train": [0, 1], "test": [1, 2]}}
    source = {"kind": "path", "folder": str(lab.folder)}
    if wrong:
        with pytest.raises(DataError, match=wrong):
            run(lab.out, source, [volume])
        volume["pairing"] = "position"
    assert len(run(lab.out, source, [volume])) == 1


def test_a_page_of_many_in_a_folders_file_is_not_the_slice(lab):
    write_slices(lab.folder / "in", ["0.tif", "1.tif"])
    tifffile.imwrite(lab.folder / "in/1.tif", np.zeros((5, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"1\.tif: expected one page, .* found 5 pages"):
        open_stack(str(lab.folder / "in"))


@pytest.mark.parametrize("name", ["../x.zip", "/tmp/x.zip", "a/b.zip", ".."])
def test_a_download_is_written_nowhere_else(tmp_path, name):
    file = {"name": name, "url": NOBODY, "checksum": "sha256:0", "unpack": True}
    with pytest.raises(DataError, match="expected the plain name of a file"):
        run(tmp_path / "out", {"kind": "download", "files": [file]}, VOLUMES["lab"])
