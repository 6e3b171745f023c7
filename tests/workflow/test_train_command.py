"""`loosebox train`: a few labelled images to a model, a table and a page."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile
from click.testing import CliRunner

from pipeline_lib.cli import main
from pipeline_lib.commands.train import fine_tune, start_of
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.data.synthetic import Look, generate_slice
from pipeline_lib.runtime.hashing import file_digest
from pipeline_lib.settings.fine_tuning import FineTuneConfig

SIZES = [(96, 128), (128, 100), (112, 112)]  # of the images, pixels
OPTIONS = ["--from", "micro", "--epochs", "2", "--tile", "128"]
SMALL = FineTuneConfig(epochs=1, tile=64, validation_levels=(20,), tested_levels=(20,))
OUTPUTS = ("model.safetensors", "train.csv", "results.csv")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images and label images."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(3)
    look = Look.draw(rng)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, size in enumerate(SIZES):
        drawn = generate_slice(rng, size, look)
        iio.imwrite(folder / f"images/s{number}.png", drawn.image)
        tifffile.imwrite(folder / f"labels/s{number}.tif", drawn.cells.astype(np.uint16))
    return folder


def arguments(labelled: Path, out: Path, *options: str) -> list[str]:
    """Return the arguments of the command for generated images."""
    return ["train", f"{labelled}/images", f"{labelled}/labels", "--out", str(out), *(options or OPTIONS)]


def run(*options: str) -> str:
    """Run the command within this process, and return what it printed."""
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the generated images."""
    out = tmp_path_factory.mktemp("trained") / "cells"
    run(*arguments(labelled, out))
    return out


def bytes_of(out: Path) -> dict[str, bytes]:
    """Return the bytes of the outputs that do not say when they were made."""
    return {name: (out / name).read_bytes() for name in OUTPUTS}


def test_images_of_different_sizes_make_a_model(trained: Path) -> None:
    results, curve = pd.read_csv(trained / "results.csv"), pd.read_csv(trained / "train.csv")
    assert results["level"].tolist() == [0, 10, 20, 30, 40]
    assert results[["before", "after"]].min(axis=None) > 0.6  # .78 to .87
    np.testing.assert_allclose(results["gain"], results["after"] - results["before"], atol=2e-6)
    assert len(curve) == 3
    header = ModelHeader.read(trained / "model.safetensors")
    assert header.backbone == "micro"
    assert header.model_config["trains"] == ["mask_decoder", "deviation_token", "image_adapter"]
    assert header.training["tile"] == [128, 128]
    assert [len(header.training["images"][split]) for split in ("train", "validation")] == [2, 1]


def test_the_page_says_what_was_done_and_asks_no_host(trained: Path) -> None:
    page = (trained / "train.html").read_text()
    for text in (
        "<h1>cells</h1>",
        "figures after training are slightly too good",
        "Labels number the objects",
        "the decoder of the backbone micro",
        f"loosebox predict IMAGES BOXES --out FOLDER --model {trained}/model.safetensors",
        "One held-out image gives no interval",
        "128 × 100",
    ):
        assert text in page
    assert page.count("<svg") == 2
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page


def test_a_finished_command_does_nothing_again(labelled: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(stage: str) -> Callable[..., None]:
        def fail(**_: Any) -> None:
            raise AssertionError(stage)

        fail.__module__ = f"pipeline_lib.stages.{stage}"  # by which the digest of its code is found
        return fail

    before = bytes_of(trained)
    for stage in ("convert", "embed", "train", "refine", "score"):
        monkeypatch.setattr(f"pipeline_lib.commands.train.{stage}", refusing(stage))
    run(*arguments(labelled, trained))
    assert bytes_of(trained) == before


def test_training_continues_from_a_model_with_boxes_as_measured(labelled: Path, trained: Path, tmp_path: Path) -> None:
    model = trained / "model.safetensors"
    deviations = tmp_path / "deviations.csv"
    deviations.write_text("left,top,right,bottom\n0.1,0.1,0.1,0.1\n-0.2,0,0.1,0\n")
    options = ("--from", str(model), "--epochs", "1", "--tile", "128", "--deviations", str(deviations))
    run(*arguments(labelled, tmp_path, *options))
    training = ModelHeader.read(tmp_path / "model.safetensors").training
    assert (training["starts_from"], training["mix"]) == (str(model), {"deviations": str(deviations)})
    assert training["deviations"] == file_digest(deviations)
    assert f"as in {deviations}" in (tmp_path / "train.html").read_text()
    first, second = (pd.read_csv(out / "results.csv") for out in (trained, tmp_path))
    assert second["before"].tolist() == first["after"].tolist()


def write_outlines(folder: Path) -> dict[str, Path]:
    """Write images with rectangles, and these as label images, COCO and regions of Fiji, by kind."""
    kinds = {kind: folder / kind for kind in ("images", "label_images", "fiji")}
    for each in kinds.values():
        each.mkdir()
    kinds["coco"] = folder / "coco.json"
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(2):
        pixels, labels = rng.integers(90, 160, (64, 64), np.uint8), np.zeros((64, 64), np.uint16)
        images.append({"id": number, "file_name": f"im{number}.png", "height": 64, "width": 64})
        regions = []
        for index, (x, y) in enumerate([(3, 4), (34, 6), (8, 36), (36, 35)][number:], 1):
            x1, y1 = x + 20, y + 17
            pixels[y:y1, x:x1] //= 3
            labels[y:y1, x:x1] = index
            annotations.append({"image_id": number, "segmentation": [[x, y, x1, y, x1, y1, x, y1]]})
            regions.append(roifile.ImagejRoi.frompoints([[x, y], [x1, y], [x1, y1], [x, y1]], name=str(index)))
        iio.imwrite(kinds["images"] / f"im{number}.png", pixels)
        tifffile.imwrite(kinds["label_images"] / f"im{number}.tif", labels)
        roifile.roiwrite(kinds["fiji"] / f"im{number}.zip", regions)
    kinds["coco"].write_text(json.dumps({"images": images, "annotations": annotations}))
    iio.imwrite(kinds["images"] / "unlabelled.png", np.full((40, 50), 120, np.uint8))
    return kinds


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools, as in `from_rle`
def test_outlines_give_the_model_of_the_same_label_images(tmp_path: Path) -> None:
    kinds = write_outlines(tmp_path)
    found = {}
    for kind in ("label_images", "coco", "fiji"):
        out = tmp_path / "out" / kind
        fine_tune(f"{kinds['images']}", (f"{kinds[kind]}",), out, start_of("micro", None, SMALL), SMALL, None, None)
        found[kind] = bytes_of(out)
    assert found["coco"] == found["label_images"]
    assert found["fiji"] == found["label_images"]


def test_killed_twice_it_makes_the_same(labelled: Path, trained: Path, tmp_path: Path) -> None:
    out, rng = tmp_path / "out", random.Random(0)
    command = [sys.executable, "-m", "pipeline_lib", *arguments(labelled, out)]
    for mark in (out / "steps/before/0.json", out / "model.safetensors.checkpoint"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not mark.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # and had not ended
    run(*command[3:])
    assert bytes_of(out) == bytes_of(trained)
    assert not list(out.rglob("*.partial"))
    assert not list(out.rglob("*.checkpoint"))


def refused(*options: str) -> str:
    """Run the command, and return the message of its error."""
    done = CliRunner().invoke(main, ["train", *options])
    assert done.exit_code in (1, 2), done.output
    assert not isinstance(done.exception, AssertionError)
    return done.output


def test_what_cannot_be_trained_on_is_an_error(labelled: Path, tmp_path: Path) -> None:
    images, labels, out = f"{labelled}/images", f"{labelled}/labels", f"{tmp_path}/out"
    micro = ("--out", out, "--from", "micro")
    assert "expected at least two images or slices" in refused(f"{images}/s0.png", f"{labels}/s0.tif", *micro)
    assert "expected shipped, the file of a model, or one of" in refused(images, labels, "--out", out, "--from", "x")
    assert "expected a model that `loosebox train` or the stage train wrote" in refused(
        images, labels, "--out", out, "--from", f"{images}/s0.png"
    )
    assert "expected labels outside the folder of the images" in refused(images, images, *micro)
    assert "there is no such file" in refused(images, f"{tmp_path}/none.json", *micro)
    assert "expected binary labels, with one value besides 0" in refused(
        images, labels, *micro, "--labels-are", "binary"
    )
    assert "expected one folder or stack of label images" in refused(images, labels, f"{labels}/s0.tif", *micro)
    assert "--out lies in" in refused(images, labels, "--out", images)
    assert "train has none; check its labels and minimum_area" in refused(
        images, labels, *micro, "--minimum-area", "100000"
    )
