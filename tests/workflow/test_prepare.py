"""The script that prepares the public data sets, on generated archives from a server on this machine.

With LOOSEBOX_ARCHIVES, a folder that holds the real archives as NAME-COMMIT.zip, it is also run on those.
"""

import importlib.util
import io
import json
import os
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from helpers.file_server import FileServer, serving
from helpers.running import ROOT
from numpy.typing import NDArray

from pipeline_lib.data import download
from pipeline_lib.errors import DataError, DownloadError

ARCHIVES = Path(os.environ.get("LOOSEBOX_ARCHIVES", ROOT / "data/permissive/.archives")).resolve()
NAMES = ("ampis_powder_sem", "axondeepseg_tem_srf_mouse", "wsu_chloroplast")  # the forms that are generated here
POWDER = "examples/powder/data"
SUBJECT = "sub-1/micr/sub-1_sample-0001_TEM"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "experiments/ready/prepare.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


script = _load()
CONTENTS = json.loads(script.CONTENTS.read_text(encoding="utf-8"))


def rectangles(size: tuple[int, int], *places: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Number rectangles (y, x, height, width) from 1."""
    labels = np.zeros(size, np.uint8)
    for number, (y, x, height, width) in enumerate(places, start=1):
        labels[y : y + height, x : x + width] = number
    return labels


GREY = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
MYELINATED = rectangles((40, 60), (2, 2, 10, 10), (20, 2, 7, 7))  # 49 pixels are too few
UNMYELINATED = rectangles((40, 60), (2, 30, 8, 8))
LEAF = np.arange(41 * 61, dtype=np.uint8).reshape(41, 61)
CHLOROPLASTS = rectangles((41, 61), (2, 2, 20, 20), (2, 40, 8, 8), (30, 40, 7, 7))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file."""
    return iio.imwrite("<bytes>", pixels, extension=".png")


def tiff(pixels: NDArray[np.uint8]) -> bytes:
    """Return a TIFF file."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    return file.getvalue()


def via(image: str, *squares: tuple[int, int, int]) -> bytes:
    """Return a file of the VGG Image Annotator with squares (y, x, side)."""
    outlines = [
        {"name": "polygon", "all_points_y": [y, y, y + side, y + side], "all_points_x": [x, x + side, x + side, x]}
        for y, x, side in squares
    ]
    regions = [{"shape_attributes": outline, "region_attributes": {}} for outline in outlines]
    return json.dumps({"_via_img_metadata": {f"{image}123": {"filename": image, "regions": regions}}}).encode()


FILES = {
    "ampis_powder_sem": {
        f"{POWDER}/images_png/a.png": png(GREY),
        f"{POWDER}/images_png/b.png": png(GREY[::-1]),
        f"{POWDER}/via_2.0.8/via_powder_particle_masks_training.json": via("a.png", (0, 0, 19), (10, 10, 9)),
        f"{POWDER}/via_2.0.8/via_powder_particle_masks_validation.json": via("b.png", (10, 10, 9), (0, 0, 19)),
    },
    "axondeepseg_tem_srf_mouse": {
        f"{SUBJECT}.png": png(np.stack([GREY, np.full_like(GREY, 255)], axis=-1)),  # with an alpha channel
        f"derivatives/labels/{SUBJECT}_seg-axon-manual.png": png(np.where(MYELINATED > 0, 255, 100).astype(np.uint8)),
        f"derivatives/labels/{SUBJECT}_seg-uaxon-manual.png": png(UNMYELINATED * 255),
    },
    "wsu_chloroplast": {
        "ExampleData/Seperated_Images/001.tif": tiff(LEAF),
        "ExampleData/Seperated_Labels/001.tif": tiff(CHLOROPLASTS),
    },
}


def zipped(name: str, files: dict[str, bytes]) -> bytes:
    """Return an archive as GitHub builds it: everything below one folder, with files that no set uses."""
    source, packed = script.SOURCES[name], io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in {"README.md": b"hello\n", **files}.items():
            archive.writestr(f"{source.repository.split('/')[1]}-{source.commit}/{path}", content)
    return packed.getvalue()


def address(name: str) -> str:
    """Return the path of a set's archive on GitHub."""
    source = script.SOURCES[name]
    return f"/{source.repository}/archive/{source.commit}.zip"


def contents(name: str) -> dict:
    """Return what the generated archive holds, with a result that no conversion has."""
    ids = {path: script.git_id(content) for path, content in FILES[name].items()}
    return {"images": 0, "objects": 0, "pixels": "", "files": ids}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """A server of the generated archives."""
    with serving({address(name): zipped(name, FILES[name]) for name in NAMES}, monkeypatch) as running:
        yield running


def prepare(name: str, server: FileServer, folder: Path, **changes: object) -> bool:
    """Prepare a set from the server, with changes to what its archive is expected to hold."""
    expected = contents(name) | changes
    return script.prepare(name, script.SOURCES[name], expected, folder, folder / "archives", server.url)


def read(folder: Path) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """Return images and labels by stem."""
    images = {file.stem: iio.imread(file) for file in folder.glob("images/*.png")}
    labels = {file.stem: iio.imread(file) for file in folder.glob("labels/*.png")}
    assert {image.dtype for image in images.values()} == {np.dtype(np.uint8)}
    assert {label.dtype for label in labels.values()} == {np.dtype(np.uint16)}
    assert images.keys() == labels.keys()
    return {stem: (images[stem], labels[stem]) for stem in images}


def test_the_id_of_a_file_is_that_of_git() -> None:
    assert script.git_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_every_set_pins_its_commit_and_files() -> None:
    assert CONTENTS.keys() == script.SOURCES.keys()
    for name, source in script.SOURCES.items():
        assert all(re.fullmatch("[0-9a-f]{40}", pin) for pin in (source.commit, *CONTENTS[name]["files"].values()))


def test_small_axons_are_removed_and_both_classes_numbered(server: FileServer, tmp_path: Path) -> None:
    assert prepare("axondeepseg_tem_srf_mouse", server, tmp_path)
    ((stem, (image, labels)),) = read(tmp_path / "axondeepseg_tem_srf_mouse").items()
    assert stem == "sub-1_sample-0001_TEM"
    assert np.array_equal(image, GREY)
    assert np.array_equal(labels, (MYELINATED == 1) + 2 * UNMYELINATED)


def test_the_smaller_of_two_overlapping_polygons_has_the_pixels(server: FileServer, tmp_path: Path) -> None:
    assert prepare("ampis_powder_sem", server, tmp_path)
    result = read(tmp_path / "ampis_powder_sem")
    assert np.array_equal(result["training_a"][0], GREY)
    assert np.array_equal(result["validation_b"][0], GREY[::-1])
    small = rectangles((40, 60), (10, 10, 10, 10))
    large = rectangles((40, 60), (0, 0, 20, 20)) - small
    assert np.array_equal(result["training_a"][1], large + 2 * small)
    assert np.array_equal(result["validation_b"][1], 2 * large + small)


def test_chloroplasts_are_halved_after_small_ones_are_removed(server: FileServer, tmp_path: Path) -> None:
    assert prepare("wsu_chloroplast", server, tmp_path)
    image, labels = read(tmp_path / "wsu_chloroplast")["chloroplast_001"]
    assert image.shape == labels.shape == (20, 30)
    assert sorted(np.unique(labels)) == [0, 1, 2]
    assert 90 <= (labels == 1).sum() <= 110
    assert 12 <= (labels == 2).sum() <= 20  # of 64 pixels before


def test_the_record_names_origin_files_and_counts(server: FileServer, tmp_path: Path) -> None:
    prepare("ampis_powder_sem", server, tmp_path)
    record = json.loads((tmp_path / "ampis_powder_sem/SOURCE.json").read_text())
    source = script.SOURCES["ampis_powder_sem"]
    assert (record["repository"], record["commit"], record["licence"]) == (source.repository, source.commit, "MIT")
    assert record["files"] == contents("ampis_powder_sem")["files"]
    assert (record["images"], record["objects"]) == (2, 4)


def test_other_pixels_than_the_model_was_trained_on_are_reported(
    server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare("ampis_powder_sem", server, tmp_path, images=2, objects=4)
    assert "ampis_powder_sem: the pixels differ from those that the shipped model was trained on" in caplog.text
    assert len(caplog.records) == 1


def test_a_finished_set_is_skipped(server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepare("ampis_powder_sem", server, tmp_path)
    assert prepare("ampis_powder_sem", server, tmp_path)  # again: its result was not the expected one
    record = json.loads((tmp_path / "ampis_powder_sem/SOURCE.json").read_text())
    result = {key: record[key] for key in ("images", "objects", "pixels")}
    shutil.rmtree(tmp_path / "archives")
    caplog.clear()
    assert not prepare("ampis_powder_sem", server, tmp_path, **result)
    assert not caplog.records
    assert len(server.ranges) == 1


def test_a_set_of_another_commit_is_made_again(server: FileServer, tmp_path: Path) -> None:
    prepare("ampis_powder_sem", server, tmp_path)
    source = replace(script.SOURCES["ampis_powder_sem"], commit="0" * 40)
    with pytest.raises(DownloadError, match=f"archive/{'0' * 40}.zip cannot be downloaded"):
        script.prepare(
            "ampis_powder_sem", source, contents("ampis_powder_sem"), tmp_path, tmp_path / "archives", server.url
        )
    assert len(read(tmp_path / "ampis_powder_sem")) == 2  # the former set stays until the new one is whole


def test_a_broken_download_is_resumed(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BLOCK", 1 << 8)
    server.faults = [(1500,), (0,), (0,)]
    with pytest.raises(DownloadError):
        prepare("axondeepseg_tem_srf_mouse", server, tmp_path)
    assert not (tmp_path / "axondeepseg_tem_srf_mouse").exists()
    assert prepare("axondeepseg_tem_srf_mouse", server, tmp_path)
    assert server.ranges[-1] not in (None, "bytes=0-")


def test_an_archive_is_downloaded_once(server: FileServer, tmp_path: Path) -> None:
    prepare("ampis_powder_sem", server, tmp_path)
    shutil.rmtree(tmp_path / "ampis_powder_sem")
    prepare("ampis_powder_sem", server, tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("path", FILES["ampis_powder_sem"])
def test_a_changed_byte_is_refused_by_name(path: str, server: FileServer, tmp_path: Path) -> None:
    content = FILES["ampis_powder_sem"][path]
    changed = content[:-1] + bytes([content[-1] ^ 1])
    server.files[address("ampis_powder_sem")] = zipped("ampis_powder_sem", FILES["ampis_powder_sem"] | {path: changed})
    expected, found = script.git_id(content), script.git_id(changed)
    with pytest.raises(
        DataError, match=rf"{re.escape(path)} is not .* expected git id {expected}, found {found}; remo"
    ):
        prepare("ampis_powder_sem", server, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["archives"]


def test_a_missing_file_is_named(server: FileServer, tmp_path: Path) -> None:
    first, *others = FILES["ampis_powder_sem"]
    files = {path: FILES["ampis_powder_sem"][path] for path in others}
    server.files[address("ampis_powder_sem")] = zipped("ampis_powder_sem", files)
    with pytest.raises(DataError, match=rf"expected {re.escape(first)} in the archive of rccohn/AMPIS at commit"):
        prepare("ampis_powder_sem", server, tmp_path)


def test_something_else_than_an_archive_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.files[address("ampis_powder_sem")] = b"<html>"
    with pytest.raises(DataError, match=r"AMPIS-\w+\.zip: expected a zip archive.*; remove /.* and run this script"):
        prepare("ampis_powder_sem", server, tmp_path)


def test_a_folder_that_the_script_did_not_write_is_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "ampis_powder_sem").mkdir()
    (tmp_path / "ampis_powder_sem/mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"ampis_powder_sem: expected no such folder or one with SOURCE\.json"):
        prepare("ampis_powder_sem", server, tmp_path)
    assert (tmp_path / "ampis_powder_sem/mine.txt").read_text() == "mine"
    assert not server.ranges


def test_the_command_names_the_set_that_failed(tmp_path: Path) -> None:
    (tmp_path / "gala_fly_em").mkdir()
    with pytest.raises(SystemExit, match=r"Error: gala_fly_em: .*SOURCE\.json"):
        script.main(["--out", str(tmp_path), "gala_fly_em"])


def test_an_unknown_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["mitochondria"])
    assert "unknown SET mitochondria; choose from ampis_powder_sem, " in capsys.readouterr().err


@pytest.mark.skipif(
    not ARCHIVES.is_dir(), reason=f"the archives of the public sets are not in {ARCHIVES} (LOOSEBOX_ARCHIVES)"
)
@pytest.mark.parametrize("name", script.SOURCES)
def test_the_real_archives_become_what_the_model_was_trained_on(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert script.prepare(name, script.SOURCES[name], CONTENTS[name], tmp_path, ARCHIVES)
    assert not caplog.records
    assert len(read(tmp_path / name)) == CONTENTS[name]["images"]
    assert not script.prepare(name, script.SOURCES[name], CONTENTS[name], tmp_path, ARCHIVES)
