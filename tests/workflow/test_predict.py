"""Segmentation of one's own images: by command, by Snakemake and from a notebook, with the same masks."""

import json
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from helpers.box_writers import WRITERS
from helpers.running import ROOT, SMALL, planned_jobs, snakemake
from helpers.stages import SERVER
from playwright.sync_api import sync_playwright
from pycocotools import mask as coco

from pipeline_lib import load_segmenter
from pipeline_lib.cli import main
from pipeline_lib.config.overlays import merged
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.example_set import TRAPS, write_example_set
from pipeline_lib.data.masks import iou
from pipeline_lib.data.objects_table import ends_with
from pipeline_lib.errors import DataError, WeightsError
from pipeline_lib.inference.segmenter import check_fits
from pipeline_lib.settings.segment import OutlineForm

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KILLS = 20
PIXEL_SIZE = [50, 4, 4]  # nm, ZYX
POINT_ON_PATH = """path => {
    const point = path.getPointAtLength(1).matrixTransform(path.getScreenCTM());
    return {x: point.x, y: point.y};
}"""
# The number of each card, and the captions of its pictures that are framed and say "kept"
KEPT = """cards => cards.map(card => [
    Number(card.id.replace('card-object-', '')),
    [...card.querySelectorAll('.kept')].filter(each => /, kept,/.test(each.querySelector('svg').ariaLabel))
        .map(each => each.querySelector('figcaption').firstChild.textContent),
])"""
# The cards with a picture that lies partly outside. Cards that are far from the window are not laid out by themselves.
OUTSIDE = """cards => cards.filter(card => {
    card.style.contentVisibility = 'visible';
    const right = card.getBoundingClientRect().right;
    return [...card.querySelectorAll('.crop')].some(each => each.getBoundingClientRect().right > right);
}).map(card => card.id)"""
REASONS = {
    "inverted in x": "ends before it begins",
    "inverted in y": "ends before it begins",
    "no width": "has no area",
    "no height": "has no area",
    "not a number": "a coordinate is not a number",
    "infinite": "a coordinate is not a number",
    "a word": "a coordinate is not a number",
    "no number": "a coordinate is not a number",
    "right of the image": "lies outside the image",
    "above the image": "lies outside the image",
    "no such image": "belongs to an image that is not there",
    "no such slice": "belongs to a slice that is not there",
}


def with_micro(arguments: list[str]) -> list[str]:
    """Let `predict` use the demo backbone, which is fast and knows generated images, unless a model is named."""
    return arguments if {"--model", "--backbone"} & {*arguments} else [*arguments, "--backbone", "micro"]


def run(*arguments: object) -> str:
    """The command within this process; what it printed."""
    done = CliRunner().invoke(main, with_micro([str(argument) for argument in arguments]))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated images and boxes."""
    folder = tmp_path_factory.mktemp("example") / "set"
    write_example_set(folder)
    return folder


@pytest.fixture(scope="module")
def predicted(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of them, with shipped weights."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    forms = ["--tiff", *(f"--{form}" for form in get_args(OutlineForm)), "--pixel-size", *PIXEL_SIZE]
    run("predict", example / "images", example / "boxes.csv", "--out", out, "--on-bad-box", "skip", *forms)
    return out


def masks_of(out: Path) -> dict[int, Any]:
    """The masks of COCO's file by number."""
    annotations = json.loads((out / "coco.json").read_text())["annotations"]
    return {entry["id"]: entry["segmentation"] for entry in annotations}


def kept_titles(out: Path) -> dict[int, str]:
    """The title of the picture of each object's output mask on the page."""
    history = pd.read_parquet(out / "steps/segment.parquet", columns=["box", "iteration", "output"])
    kept = history[history["output"]].set_index("box")["iteration"]
    return {number: f"iteration {iteration}" if iteration else "given box" for number, iteration in kept.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools, as in `from_rle`
def test_loose_boxes_become_masks_and_traps_do_not(example: Path, predicted: Path) -> None:
    table = pd.read_csv(predicted / "objects.csv", index_col="id")
    skipped = table["flags"].fillna("").str.startswith("skipped")
    traps = table[table["name"].isin(TRAPS)]
    assert dict(zip(traps["name"], traps["flags"].str.removeprefix("skipped: "), strict=True)) == REASONS
    assert table[skipped & ~table["name"].isin(TRAPS)]["flags"].tolist() == ["skipped: is the same as another box"]
    masks = masks_of(predicted)
    assert not set(masks) & set(table.index[skipped])
    ious = []
    for number, row in table[~skipped].iterrows():
        truth = tifffile.imread(example / "truth" / f"{Path(row['image']).stem}.tif") == int(row["name"])
        mask = coco.decode(masks[number]).astype(bool) if number in masks else np.zeros_like(truth)
        ious.append(float(iou(mask, truth)))
        assert row["area"] == mask.sum()
    assert len(ious) == len(table) - 1 - len(TRAPS)
    assert np.mean(ious) > 0.65  # .73 as shipped; whatever returned the boxes themselves would have .45


def test_a_flag_tells_most_boxes_that_were_far_off(example: Path, predicted: Path) -> None:
    """`moved far`, against the truth that the given box overlaps the object's own by less than a half."""
    table = pd.read_csv(predicted / "objects.csv", index_col="id")
    table = table[~table["flags"].fillna("").str.startswith("skipped")]
    flagged, far = [], []
    for _, row in table.iterrows():
        y, x = np.nonzero(tifffile.imread(example / "truth" / f"{Path(row['image']).stem}.tif") == int(row["name"]))
        exact = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        given = row[["given_x0", "given_y0", "given_x1", "given_y1"]].to_numpy(float)
        shared = np.prod(np.maximum(np.minimum(exact[2:], given[2:]) - np.maximum(exact[:2], given[:2]), 0))
        both = np.prod(exact[2:] - exact[:2]) + np.prod(given[2:] - given[:2])
        far.append(shared / (both - shared) < 0.5)
        flagged.append("moved far" in str(row["flags"]))
    found = np.array(flagged) & np.array(far)
    precision, recall = found.sum() / sum(flagged), found.sum() / sum(far)
    print(f"moved far: precision {precision:.2f}, recall {recall:.2f}, {sum(far)} of {len(far)} boxes far off")
    assert precision > 0.8
    assert recall > 0.6


def test_a_low_predicted_iou_is_flagged(predicted: Path) -> None:
    table = pd.read_csv(predicted / "objects.csv").query("area == area")  # prompted boxes
    is_flagged = table["flags"].fillna("").str.contains("low predicted IoU")
    assert is_flagged.tolist() == (table["predicted_iou"] < 0.71).tolist()
    assert 0 < is_flagged.sum() < len(table)


def test_the_documents_name_the_columns_of_the_table(predicted: Path) -> None:
    page = (ROOT / "docs/outputs.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| column \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines()]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(pd.read_csv(predicted / "objects.csv").columns)


def test_label_images_and_table_agree(predicted: Path) -> None:
    table = pd.read_csv(predicted / "objects.csv", index_col="id")
    found = {number for file in (predicted / "label_tiffs").iterdir() for number in np.unique(tifffile.imread(file))}
    assert found - {0} <= set(table.index[table["area"] > 0])
    assert len(found) > 0.8 * (table["area"] > 0).sum()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make system` installs it on Debian, as root")
def test_the_page_shows_flagged_objects_first_and_asks_no_host(predicted: Path) -> None:
    seen: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 900}, reduced_motion="reduce")
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        page.goto((predicted / "predict.html").as_uri())
        headings = page.locator("h2").all_inner_texts()
        outlined = page.locator(".whole svg a").count()
        links = page.eval_on_selector_all(
            ".whole svg a", "links => links.map(link => link.getAttribute('href').slice(1))"
        )
        without_card = [name for name in links if page.locator(f"#{name}").count() != 1]
        on_top = page.locator(".whole").first.locator("svg a").last
        on_top.scroll_into_view_if_needed()
        page.mouse.click(**on_top.locator("path").evaluate(POINT_ON_PATH))
        clicked, card = page.evaluate("location.hash"), page.locator(":target")
        in_view = 0 < card.evaluate("card => card.getBoundingClientRect().top") < 900
        card.get_by_text("show in the image").click()
        back = page.evaluate("location.hash")
        page.locator(".whole summary").first.focus()
        for key in ("Enter", "Tab", "Enter"):
            page.keyboard.press(key)
        by_keyboard = page.evaluate("location.hash")
        first = page.locator("article.object").first.text_content() or ""  # also of a card that is not drawn yet
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        skipped = page.locator("#skipped tbody tr").count()
        text = page.inner_text("header")
        kept = page.eval_on_selector_all("article.object", KEPT)
        legend = page.locator("#flagged > .note").last.inner_text()
        meanings = page.locator("#flagged table").inner_text()
        page.set_viewport_size({"width": 1300, "height": 900})
        outside = page.eval_on_selector_all("article.object", OUTSIDE)
        browser.close()
    assert [url for url in seen if not url.startswith("data:")] == [(predicted / "predict.html").as_uri()]
    assert headings[:3] == ["Whole images", "Measurements by image and class", "To look at first"]
    table = pd.read_csv(predicted / "objects.csv", index_col="id")
    assert outlined == table["area"].notna().sum()
    assert without_card == []
    assert (clicked.startswith("#card-object-"), in_view) == (True, True)
    assert back == clicked.replace("card-object", "drawn")
    assert by_keyboard.startswith("#card-object-")
    assert "moved far" in first
    assert "given box" in first
    assert wide == 0
    assert skipped == 13
    assert "No model was trained for this" in text
    assert {number: [title] for number, title in kept_titles(predicted).items()} == dict(kept)
    assert "An iteration is kept only if its predicted IoU exceeds that of the first mask by more than .15." in legend
    assert outside == []
    assert "the predicted IoU of the mask is low (below 0.71)" in meanings


def test_the_requested_outlines_are_there_and_those_of_before_are_not(
    example: Path, predicted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert sorted(file.name for file in (predicted / "rois").iterdir()) == ["a.zip", "b.zip", "c.zip"]
    assert sorted(file.name for file in (predicted / "geojson").iterdir()) == ["a.geojson", "b.geojson", "c.geojson"]
    assert sorted(file.name for file in (predicted / "yolo/labels").iterdir()) == ["a.txt", "b.txt", "c.txt"]
    again = predicted.with_name("again")
    shutil.copytree(predicted, again)
    with caplog.at_level(logging.INFO):
        arguments = [example / "images", example / "boxes.csv", "--out", again, "--on-bad-box", "skip", "--yolo"]
        printed = run("predict", *arguments)
    named = printed.partition(f"{again}/predict.html, ")[2].splitlines()[0].split(", ")
    assert {"predict.html", *named, "steps"} == {file.name for file in again.iterdir()}
    assert [form for form in (*get_args(OutlineForm), "label_tiffs") if (again / form).exists()] == ["yolo"]
    removed = [message for message in caplog.messages if "removed" in message]
    assert removed == [
        f"{again}/{name}: removed, because an earlier run wrote it; --{option} writes it again"
        for name, option in (("geojson", "geojson"), ("rois", "rois"), ("label_tiffs", "tiff"))
    ]
    assert "area_nm2" not in pd.read_csv(again / "objects.csv")


def test_measurements_in_nanometres_are_those_in_pixels_times_the_size_of_a_pixel(predicted: Path) -> None:
    table = pd.read_csv(predicted / "objects.csv").query("area > 0")
    np.testing.assert_allclose(table["area_nm2"], 16 * table["area"], rtol=1e-5)
    np.testing.assert_allclose(table["major_axis_nm"], 4 * table["major_axis"], rtol=1e-5)
    summary = pd.read_csv(predicted / "summary.csv", index_col="image")
    assert summary["area_sum"].to_dict() == table.groupby("image")["area"].sum().to_dict() | {"d.png": 0}


def test_bad_boxes_stop_the_command_before_any_network_runs(example: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, with_micro(["predict", f"{example}/images", f"{example}/boxes.csv", "--out", f"{tmp_path}/out"])
    )
    assert done.exit_code == 1
    assert "13 bad boxes:" in done.output
    assert "boxes.csv:59 is the same as another box" in done.output
    assert not list((tmp_path / "out").rglob("*.parquet*"))


def test_the_same_boxes_from_each_tool_give_identical_masks(example: Path, tmp_path: Path) -> None:
    image = example / "images/a.png"
    shape = iio.improps(image).shape
    boxes = [(50, 60, 120, 130), (200, 100, 290, 160), (0, 0, 60, 40), (300, 200, 420, 300)]
    found = {}
    for form in "coco", "yolo", "xyxy", "fiji", "labelme":  # tests/data/test_box_formats.py compares the boxes of all
        given = WRITERS[form](tmp_path / form, image.name, (shape[0], shape[1]), boxes)
        run("predict", image, given, "--out", tmp_path / "out" / form)
        found[form] = masks_of(tmp_path / "out" / form)
    assert len(found["coco"]) == 4
    assert [form for form, masks in found.items() if masks != found["coco"]] == []


def test_a_notebook_gets_the_same_masks(example: Path, predicted: Path) -> None:
    table = pd.read_csv(predicted / "objects.csv", index_col="id")
    own = table[(table["image"] == "b.png") & table["area"].notna()]
    boxes = own[["given_x0", "given_y0", "given_x1", "given_y1"]].to_numpy()
    segmenter = load_segmenter(backbone="micro", on_bad_box="skip")
    masks, told = segmenter(iio.imread(example / "images/b.png"), np.concatenate([boxes, [[9, 9, 9, 20]]]))
    assert masks.shape == (len(own) + 1, 256, 256)
    assert masks[:-1].sum(axis=(1, 2)).tolist() == own["area"].tolist()
    assert told["flags"].iloc[-1] == "skipped: has no area"
    assert not masks[-1].any()
    with pytest.raises(DataError, match=r"expected uint8 of shape \(height, width\), found float64"):
        segmenter(np.zeros((9, 9)), boxes)


def test_a_notebooks_odd_calls() -> None:
    image = np.full((60, 80), 200, np.uint8)
    image[20:40, 30:60] = 30
    segmenter = load_segmenter(backbone="micro", on_bad_box="skip")
    masks, told = segmenter(image, [])
    assert (masks.shape, len(told)) == ((0, 60, 80), 0)
    masks, _ = segmenter(image, [28, 18, 62, 42])  # one box
    assert masks.shape == (1, 60, 80)
    masks, told = segmenter(image, pd.DataFrame({"x0": ["9"], "y0": [9], "x1": [9], "y1": ["x"], "slice": [4]}))
    assert (masks.any(), told["flags"].tolist()) == (False, ["skipped: a coordinate is not a number"])
    with pytest.raises(DataError, match=r"expected an array \(N, 4\), found one of shape \(2, 5\)"):
        segmenter(image, np.zeros((2, 5)))
    with pytest.raises(
        DataError, match=r"config: segment\.on_bad_bx is an unknown key; did you mean segment\.on_bad_box"
    ):
        load_segmenter(backbone="micro", on_bad_bx="skip")


def test_a_box_that_goes_beyond_the_image_has_not_moved() -> None:
    image = np.full((60, 80), 200, np.uint8)
    image[20:40, :30] = 30
    _, told = load_segmenter(backbone="micro")(image, [(-30, 20, 30, 40)])
    assert told["moved"].iloc[0] < 0.2
    assert "touches the border" not in told["flags"].iloc[0]


@pytest.mark.parametrize(("window", "flagged"), [(1.2, True), (4.0, False), (None, False)])
def test_a_mask_that_is_cut_around_its_box_is_flagged(window: float | None, flagged: bool) -> None:
    image = np.full((128, 128), 200, np.uint8)
    image[30:100, 30:100] = 30
    refine = {"mask_extent": window, "max_iterations": 0}
    masks, told = load_segmenter(backbone="micro", refine=refine)(image, [(40, 40, 90, 90)])  # too small
    columns = np.flatnonzero(masks[0].any(axis=0))
    assert (columns[0] == 35) == flagged  # twenty per cent more than the box begin there
    assert ("cut around its box" in told["flags"].iloc[0]) == flagged


def test_a_mask_at_the_images_end_is_not_cut_there() -> None:
    mask = np.zeros((8, 10), bool)
    mask[:6, 2:] = True
    assert not ends_with(mask, np.array([2, -2, 12, 4], np.float32), 2.0)
    assert ends_with(mask, np.array([2, -2, 12, 4], np.float32), 5 / 3)  # -4 to 6 below, -1.3 and 15.3 beside


def test_changed_pixels_and_settings_are_not_answered_from_before(example: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(example / "images", images)
    arguments = ["predict", images, example / "boxes.csv", "--on-bad-box", "skip", "--out", tmp_path / "out"]
    run(*arguments)
    before = masks_of(tmp_path / "out")
    iio.imwrite(images / "a.png", iio.imread(images / "a.png")[::-1])
    run(*arguments)
    after = masks_of(tmp_path / "out")
    annotations = json.loads((tmp_path / "out/coco.json").read_text())["annotations"]
    of_a = {entry["id"] for entry in annotations if entry["image_id"] == 1}
    assert any(before.get(number) != after[number] for number in of_a)
    assert all(before[number] == after[number] for number in set(after) - of_a)


def test_an_image_that_lacks_a_chunk_is_refused_unless_blank_ones_may_be_left_out(tmp_path: Path) -> None:
    image = zarr.create_array(tmp_path / "a.zarr", shape=(1, 64, 64), chunks=(1, 32, 32), dtype=np.uint8)
    image[:, :32] = np.tile(np.arange(1, 65, dtype=np.uint8), (1, 32, 1))  # the lower half is blank, and not written
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\na.zarr,4,4,30,30\n")
    (tmp_path / "own.yaml").write_text("segment: {missing_chunks: [images]}")
    arguments = ["predict", f"{tmp_path}/a.zarr", f"{tmp_path}/boxes.csv", "--out", f"{tmp_path}/out"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "a.zarr: 2 of 4 chunks are missing and would read as 0" in done.output
    run(*arguments, "--config", tmp_path / "own.yaml")


def test_the_commands_settings_are_checked(example: Path, tmp_path: Path) -> None:
    for text, says in (
        ("", None),
        ("segment: {marign: 3}", "config: segment.marign is an unknown key"),
        ("train: {epochs: 3}", "config: train is an unknown key; expected the sections segment and refine"),
        ("segment: 3", "config: segment is 3, expected a section with the keys"),
        ("segment: {", "own.yaml: expected YAML"),
        ("segment: {margin: 2026-13-45}", "own.yaml: expected YAML: month must be in 1..12"),
        ("segment: {margin: 1, margin: 2}", "own.yaml: "),
    ):
        (tmp_path / "own.yaml").write_text(text)
        arguments = ["predict", f"{example}/images/b.png", f"{example}/boxes.csv", "--out", f"{tmp_path}/out"]
        done = CliRunner().invoke(main, [*arguments, "--on-bad-box", "skip", "--config", f"{tmp_path}/own.yaml"])
        assert (done.exit_code, says is None or says in done.output) == (0 if says is None else 1, True), done.output
    for out in f"{tmp_path}", f"{tmp_path}/within/out":
        done = CliRunner().invoke(main, with_micro(["predict", f"{tmp_path}", f"{example}/boxes.csv", "--out", out]))
        assert f"--out lies in {tmp_path}" in " ".join(done.output.split())


@pytest.fixture(scope="module")
def overlay(example: Path) -> dict[str, Any]:
    own = {"images": f"{example}/images", "boxes": f"{example}/boxes.csv", "model": None}
    return SMALL | {
        "predict": {"mine": own | {"segment": {"on_bad_box": "skip", "shards": 3, "pixel_size": PIXEL_SIZE}}}
    }


def test_snakemake_in_shards_makes_the_same(
    overlay: dict[str, Any], predicted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sharded")
    target = "results/collect/mine/labels.zarr"
    assert planned_jobs(snakemake(folder, overlay, "-n", target)) == {
        "weights": 1,
        "prompts": 1,
        "segment": 3,
        "collect": 1,
    }
    forms = get_args(OutlineForm)
    outlines = [f"results/outlines/mine/{form}" for form in forms]
    done = snakemake(folder, overlay, "--cores", "2", target, "results/label_tiffs/mine", *outlines)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = folder / "results/collect/mine"
    for name in ("objects.csv", "summary.csv", "coco_polygons.json"):
        assert (ours / name).read_bytes() == (predicted / name).read_bytes()
    for form in forms:
        if form != "rois":  # an archive holds times
            assert digest_of(folder / "results/outlines/mine" / form) == digest_of(predicted / form)
    assert digest_of(ours / "labels.zarr") == digest_of(predicted / "labels.zarr")
    assert planned_jobs(snakemake(folder, overlay, "-n", target)) == {}
    (folder / "results/segment/mine/1.parquet").unlink()
    assert planned_jobs(snakemake(folder, overlay, "-n", target, "results/segment/mine/1.parquet"))["segment"] == 1


def digest_of(folder: Path) -> dict[str, bytes]:
    """The bytes of each file."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".snakemake_timestamp")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_model_of_the_experiment_is_trained_first(overlay: dict[str, Any], tmp_path: Path) -> None:
    own = overlay["predict"]["mine"] | {"model": {"dataset": "cells", "model": "proposed", "seed": 0}}
    planned = planned_jobs(
        snakemake(tmp_path, overlay | {"predict": {"mine": own}}, "-n", "results/collect/mine/objects.csv")
    )
    assert planned["train"] == 1
    wrong = own | {"model": {"dataset": "cells", "model": "none", "seed": 4}}
    refused = snakemake(tmp_path, overlay | {"predict": {"mine": wrong}}, "-n")
    assert "predict.mine.model.model is 'none', expected one of" in refused.stdout
    assert "predict.mine.model.seed is 4, expected one of [0]" in refused.stdout
    in_folds = merged(overlay, {"datasets": {"cells": {"folds": 3}}, "predict": {"mine": own}})
    assert "predict.mine.model.dataset is 'cells', expected one of" in snakemake(tmp_path, in_folds, "-n").stdout


def test_a_trained_model_segments_and_only_on_its_backbone(example: Path, finished: Path, tmp_path: Path) -> None:
    model = finished / "results/train/cells/proposed/0.safetensors"
    arguments = ["predict", example / "images/b.png", example / "boxes.csv", "--on-bad-box", "skip", "--model", model]
    run(*arguments, "--out", tmp_path / "out")
    page = (tmp_path / "out/predict.html").read_text()
    assert "trained on cells over the backbone micro" in page
    assert "No model was trained" not in page
    with pytest.raises(WeightsError, match=r"trained on the backbone micro, but mobile_sam is set"):
        check_fits(model, Backbone("mobile_sam", "x", "0", 1, 1024, ""))
    with pytest.raises(WeightsError, match=r"trained on a checkpoint with the digest"):
        check_fits(model, Backbone("micro", "x", "another", 1, 256, ""))


def lines_of(journal: Path) -> int:
    """Pieces that are kept, and a head."""
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_killed_twenty_times_it_makes_the_same(example: Path, predicted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = tmp_path / "settings.yaml"
    settings.write_text("segment: {batch: 1}\n")  # a piece for each window
    arguments = ["predict", f"{example}/images", f"{example}/boxes.csv", "--out", str(out), "--on-bad-box", "skip"]
    arguments += ["--backbone", "micro", "--config", str(settings)]
    rng, journal = random.Random(0), out / "steps/segment.parquet.unfinished"
    for kill in range(KILLS):
        pieces = kill + 1  # a run more each time; past the last, in the midst of what comes after the network
        process = SERVER.start("pipeline_lib.cli:main", arguments)
        writing = f".labels.zarr.*.{process.pid}.partial"
        while process.is_running() and lines_of(journal) <= pieces and not list(out.glob(writing)):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        assert process.finish().returncode == -signal.SIGKILL  # and had not ended
    subprocess.run([sys.executable, "-m", "pipeline_lib", *arguments], check=True, capture_output=True)
    undisturbed = tmp_path / "undisturbed"
    run(*(undisturbed if part == str(out) else part for part in arguments))
    assert digest_of(out / "labels.zarr") == digest_of(undisturbed / "labels.zarr")
    for name in ("objects.csv", "coco.json"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(out.rglob(".*.partial"))  # nor is anything left of what was killed


COMMANDS = ["predict images boxes.csv", "track images boxes.csv", "train images labels", "deviation boxes.csv labels"]


@pytest.mark.parametrize("command", [*COMMANDS, "export model.safetensors"])
def test_a_folder_that_cannot_be_written_is_an_error_at_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in "model.safetensors", "a_file":
        Path(file).touch()
    done = CliRunner().invoke(main, [*command.split(), "--out", "a_file/out"])
    assert done.exit_code == 2
    assert "a_file is a file, so a_file/out cannot be created" in " ".join(done.output.split())
    monkeypatch.setattr("os.access", lambda *_: False)
    done = CliRunner().invoke(main, [*command.split(), "--out", "out"])
    assert done.exit_code == 2
    assert "cannot write in" in done.output
