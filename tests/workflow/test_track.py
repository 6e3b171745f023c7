"""Objects of a generated volume, from one loose box each: by command, from a notebook and by Snakemake."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from helpers.running import SMALL, planned_jobs, snakemake

from pipeline_lib import load_segmenter
from pipeline_lib.cli import main
from pipeline_lib.config.defaults import segmentation
from pipeline_lib.data.boxes import XYXY, grown, object_boxes
from pipeline_lib.data.masks import from_rle
from pipeline_lib.data.synthetic import Look, generate_slice
from pipeline_lib.data.tracks import window_of
from pipeline_lib.errors import DataError
from pipeline_lib.inference.follow import Follower, grey_distribution, likeness
from pipeline_lib.stages.collect_tracks import collect_tracks
from pipeline_lib.stages.track import track as track_stage

DEPTH, HEIGHT, WIDTH = 6, 120, 140
BOXED = 3  # slice of the boxes
KILLS = 20


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume whose slices are one generated slice that moves, as a folder and as a stack; loose boxes in a slice."""
    folder, rng = tmp_path_factory.mktemp("volume"), np.random.default_rng(3)
    drawn = generate_slice(rng, (HEIGHT + DEPTH, WIDTH + 2 * DEPTH), Look.draw(rng))
    parts = [(slice(z, z + HEIGHT), slice(2 * z, 2 * z + WIDTH)) for z in range(DEPTH)]
    images, truth = (np.stack([whole[part] for part in parts]) for whole in (drawn.image, drawn.cells))
    (folder / "slices").mkdir()
    for z, image in enumerate(images):
        iio.imwrite(folder / f"slices/z{z + 8}.png", image)
    tifffile.imwrite(folder / "stack.tif", images, photometric="minisblack")
    np.save(folder / "truth.npy", truth)
    inside = [
        (number, *box)
        for number, *box, area in object_boxes(truth[BOXED])
        if area > 400 and min(box[:2]) > 0 and box[2] < WIDTH and box[3] < HEIGHT
    ]
    table = pd.DataFrame(inside[:4], columns=["name", *XYXY])
    table[XYXY] = grown(table[XYXY].to_numpy(float), 1.2)
    table.assign(image=f"z{BOXED + 8}.png").to_csv(folder / "boxes.csv", index=False)
    table.assign(image="stack.tif", slice=BOXED).to_csv(folder / "stack.csv", index=False)
    return folder


def track(*arguments: object) -> None:
    """Run the command within this process."""
    words = ["track", *map(str, arguments), "--backbone", "micro"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def tracked(volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the folder of slices."""
    out = tmp_path_factory.mktemp("tracked") / "out"
    track(volume / "slices", volume / "boxes.csv", "--out", out, "--pixel-size", 50, 4, 4)
    return out


def test_one_box_becomes_an_object_of_all_slices(volume: Path, tracked: Path) -> None:
    objects, truth = pd.read_csv(tracked / "objects.csv"), np.load(volume / "truth.npy")
    labels = zarr.open_array(tracked / "labels.zarr/slices/labels/objects/0", mode="r")[:]
    ious = []
    for _, row in objects.iterrows():
        mask, true = labels == row["object"], truth == row["name"]
        ious.append((mask & true).sum() / (mask | true).sum())
    assert len(objects) >= 3
    assert np.mean(ious) > 0.6  # the same box on every slice would have .45 at most
    assert (objects[["first_slice", "last_slice"]] == [0, DEPTH - 1]).all(axis=None)


def test_tables_label_image_and_metadata_agree(tracked: Path) -> None:
    objects, slices = pd.read_csv(tracked / "objects.csv", index_col="object"), pd.read_csv(tracked / "slices.csv")
    labels = zarr.open_array(tracked / "labels.zarr/slices/labels/objects/0", mode="r")[:]
    of_each = slices.groupby("object")[["area", "shared"]].sum()
    assert of_each["area"].tolist() == objects["voxels"].tolist()
    assert np.bincount(labels.ravel())[1:].tolist() == (of_each["area"] - of_each["shared"]).tolist()
    assert objects["volume_um3"].to_numpy() == pytest.approx(objects["voxels"] * 50 * 4 * 4 / 1e9, rel=1e-5)
    record: Any = zarr.open_group(tracked / "labels.zarr/slices/labels/objects", mode="r").attrs["ome"]
    scale = record["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [50, 4, 4]
    page = (tracked / "track.html").read_text()
    assert page.count('<article class="object"') == len(objects)
    assert f"slice {DEPTH - 1}" in page


def test_a_stack_and_a_notebook_give_the_same_masks(volume: Path, tracked: Path, tmp_path: Path) -> None:
    track(volume / "stack.tif", volume / "stack.csv", "--out", tmp_path / "out", "--pixel-size", 50, 4, 4, "--tiff")
    labels = zarr.open_array(tracked / "labels.zarr/slices/labels/objects/0", mode="r")[:]
    assert (zarr.open_array(tmp_path / "out/labels.zarr/stack.tif/labels/objects/0", mode="r")[:] == labels).all()
    stack, boxes = tifffile.imread(volume / "stack.tif"), pd.read_csv(volume / "stack.csv")
    found, objects, slices = load_segmenter(backbone="micro").track(stack, boxes)
    assert (found == labels).all()
    assert (tifffile.imread(tmp_path / "out/label_tiffs/stack.tif") == labels).all()
    assert objects["voxels"].tolist() == pd.read_csv(tracked / "objects.csv")["voxels"].tolist()
    assert len(slices) == len(pd.read_csv(tracked / "slices.csv"))


def test_a_mask_is_compared_with_all_masks_of_the_object_so_far(volume: Path, tracked: Path) -> None:
    rows, stack = pd.read_parquet(tracked / "steps/track.parquet"), tifffile.imread(volume / "stack.tif")
    greys = []
    for row in rows.to_dict("records"):
        y, x, side = window_of(row)
        pixels = stack[row["slice"], y : y + side, x : x + side]
        greys.append(grey_distribution(pixels, from_rle(row["mask"], pixels.shape)))
    rows = rows.assign(greys=greys)
    for direction in (-1, 1):
        way = rows[rows["direction"].isin([0, direction])].sort_values("slice", ascending=direction > 0)
        for _, masks in way.groupby("object"):
            means = masks["predicted_iou"].expanding().mean().to_numpy()
            assert masks["mean_iou"].to_numpy() == pytest.approx(means, rel=1e-5)
            shares = masks["predicted_iou"].to_numpy()[1:] / means[:-1]
            assert masks["confidence"].to_numpy()[1:] == pytest.approx(shares, rel=1e-5)
            own = np.stack(masks["greys"].to_list())
            before = [own[:number].mean(axis=0) for number in range(1, len(own))]
            alike = [likeness(each, mean) for each, mean in zip(own[1:], before, strict=True)]
            assert masks["likeness"].to_numpy()[1:] == pytest.approx(alike, rel=1e-5)


def test_the_page_shows_what_ended_an_object_as_refused(tracked: Path, tmp_path: Path) -> None:
    rows, steps = pd.read_parquet(tracked / "steps/track.parquet"), tracked / "steps"
    last = rows["slice"] == DEPTH - 1
    rows.assign(ended=rows["ended"].mask(last, "overlap 0.100 < 0.5")).to_parquet(tmp_path / "track.parquet")
    outputs = {name: str(tmp_path / name) for name in ("labels", "objects", "slices", "page")}
    read = {"prompts": str(steps / "prompts"), "weights": str(steps / "weights.json")}
    flags = segmentation({"segment": {}})[0].track.flags
    collect_tracks(tracks=[str(tmp_path / "track.parquet")], name="a", pixel_size=None, flags=flags, **read, **outputs)
    for page, refused in ((tracked / "track.html", 0), (tmp_path / "page", last.sum())):
        assert len(re.findall(r"<figcaption>slice \d+, refused", page.read_text())) == refused


@pytest.mark.parametrize(
    ("slices", "says"),
    [
        ([], "boxes: expected at least one box, found none"),
        ([1, np.nan], "boxes: row 1 names no slice: expected a whole number, counted from 0; found nan"),
        (["1", "first"], "boxes: row 1 names no slice: .* found first"),
        ([0.5, 1], "boxes: row 0 names no slice: .* found 0.5"),
    ],
)
def test_a_notebook_says_which_box_has_no_slice(slices: list[Any], says: str) -> None:
    boxes = pd.DataFrame({"slice": slices, "x0": 2, "y0": 2, "x1": 20, "y1": 20})
    with pytest.raises(DataError, match=says):
        load_segmenter(backbone="micro").track(np.zeros((3, 40, 40), np.uint8), boxes)


class Killed(BaseException):
    """In place of a signal, which ends a process as suddenly."""


def test_killed_after_each_slice_it_makes_the_same(
    volume: Path, tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole, kills = tmp_path / "out", Follower.segment_slice, 0
    arguments = [volume / "slices", volume / "boxes.csv", "--out", out, "--pixel-size", 50, 4, 4]

    for _ in range(KILLS):
        calls = []

        def once(follower: Follower, z: int, direction: int, last: Mapping[int, Any], calls: list[int] = calls) -> Any:
            if calls:
                raise Killed
            calls.append(z)
            return whole(follower, z, direction, last)

        monkeypatch.setattr(Follower, "segment_slice", once)
        try:
            track(*arguments)
        except Killed:
            kills += 1
            continue
        break
    assert kills == DEPTH - 2  # of DEPTH - 1 slices, after all but the last
    assert (out / "steps/track.parquet").read_bytes() == (tracked / "steps/track.parquet").read_bytes()
    for name in ("objects.csv", "slices.csv", "track.html"):
        assert (out / name).read_bytes() == (tracked / name).read_bytes()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"slice": [0, 0], "name": ["a", "a"]},
            "expected one box for an object on slice 0, found two with the name 'a'",
        ),
        ({}, "boxes.csv:2: expected the number of a slice, because stack.tif has 6 slices; found none"),
        ({"slice": [0, DEPTH]}, "belongs to a slice that is not there"),
    ],
)
def test_boxes_that_can_mean_several_things_are_refused(
    volume: Path, tmp_path: Path, columns: dict[str, Any], says: str
) -> None:
    boxes = pd.DataFrame({"x0": [10, 50], "y0": [10, 50], "x1": [40, 80], "y1": [40, 80]} | columns)
    boxes.to_csv(tmp_path / "boxes.csv", index=False)
    words = ["track", f"{volume}/stack.tif", f"{tmp_path}/boxes.csv", "--out", f"{tmp_path}/out"]
    done = CliRunner().invoke(main, [*words, "--backbone", "micro"])
    assert done.exit_code == 1
    assert says in done.output


def test_shards_of_objects_are_collected_together(tracked: Path, tmp_path: Path) -> None:
    names = ("weights.json", "prompts", "segment.parquet")
    manifest, given, iterations = (str(tracked / "steps" / name) for name in names)
    segment, refine = segmentation({})
    config = segment.track.model_copy(update={"shards": 5})  # more than there are objects
    how: dict[str, Any] = {
        "batch": 4,
        "precision": "auto",
        "settings": segment.prompts(),
        "refine": refine,
        "track": config,
    }
    shards = [str(tmp_path / f"{shard}.parquet") for shard in range(config.shards)]
    for shard, path in enumerate(shards):
        track_stage(prompts=given, iterations=[iterations], weights=manifest, tracks=path, shard=shard, **how)
    outputs = {name: str(tmp_path / name) for name in ("labels", "objects", "slices", "page")}
    how = {"name": "a", "pixel_size": None, "flags": config.flags}
    collect_tracks(prompts=given, tracks=shards, weights=manifest, **outputs, **how)
    found, whole = pd.read_csv(tmp_path / "objects"), pd.read_csv(tracked / "objects.csv")
    assert found["object"].tolist() == whole["object"].tolist()
    assert found["voxels"].to_numpy() == pytest.approx(whole["voxels"], rel=0.1)  # other windows


def test_snakemake_tracks_objects_in_shards(volume: Path, tmp_path: Path) -> None:
    settings = {"stack": True, "track": {"shards": 3}}
    own = {"images": f"{volume}/slices", "boxes": f"{volume}/boxes.csv", "model": None, "segment": settings}
    planned = planned_jobs(
        snakemake(tmp_path, SMALL | {"predict": {"mine": own}}, "-n", "results/collect_tracks/mine/labels.zarr")
    )
    assert planned == {"weights": 1, "prompts": 1, "segment": 1, "track": 3, "collect_tracks": 1}
