"""Segmentation of people's own images: how many windows it encodes, how much memory it takes, how fast it is.

    python -m benchmarks.predict windows
    python -m benchmarks.predict large FOLDER
    python -m benchmarks.predict many FOLDER
    python -m benchmarks.predict dense FOLDER
    python -m benchmarks.predict speed
    python -m benchmarks.predict peers
    python -m benchmarks.predict slices RESULTS DATASET MODEL

`large` writes an image of 4 gigapixels and 10,000 boxes to FOLDER, `many` 2,000 images of 256 × 256 pixels with 5 boxes
each, `dense` 500 images of 1,024 × 1,024 with 200 each, 100,000 in all; they are then segmented as `loosebox predict`
does, on `micro`. Memory is the process's largest resident set.
`peers` is one image of 1,024 × 1,024 pixels and 100 boxes, from pixels to masks, on a `vit_b` with random weights; the
others come by `pip install .[peers]`. `slices` segments the whole test slices of a finished experiment whose labels are
membranes of value 0, in place of its tiles, and prints both mean IoUs; objects that no tile cuts have the tables'
boxes, which end at the image's border alone.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio.v3 as iio
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from safetensors.torch import save_file
from segment_anything import SamPredictor
from tqdm import tqdm

from benchmarks import peers
from benchmarks.decode import measured, random_sam
from benchmarks.limit import PRECISIONS
from benchmarks.peers import Boxes, Masks, Way
from benchmarks.report import interleaved, machine, write_section
from pipeline_lib import load_segmenter
from pipeline_lib.api import LoadedSegmenter
from pipeline_lib.cli import segment_set
from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY, deviated, object_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, iou
from pipeline_lib.data.readers import open_stack
from pipeline_lib.data.synthetic import Look, generate_slice
from pipeline_lib.data.tiling import components
from pipeline_lib.data.windows import WindowConfig, lay_windows
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import Deviation

BLOCK, SIDE, LARGE_BOXES = 1024, 62, 10_000  # pixels, blocks along a side, boxes
PICTURES = 20  # that many images are made from
WINDOW, MARGIN = 256, 0.5
SPARSE = 20  # boxes of the sparse image
ROUNDS = 5
PEERS_BOXES, CHUNK, PEERS_ROUNDS = 100, 32, 3  # of an image, of a call of the others
MICRO = {"name": "micro", "checkpoint": None}


def generated(side: int, seed: int = 5) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A generated slice and the exact boxes (N, 4) of its cells."""
    rng = np.random.default_rng(seed)
    drawn = generate_slice(rng, (side, side), Look.draw(rng))
    return drawn.image, np.array([box for _, *box, area in object_boxes(drawn.cells) if area >= 64], float)


def windows() -> None:
    """Print encodings per 100 boxes, beside the tiles of a grid of the same size that have a box."""
    shape = (2048, 2048)
    _, dense = generated(shape[0])
    sparse = dense[np.random.default_rng(0).permutation(len(dense))[:SPARSE]]
    for name, boxes in (("dense", dense), ("sparse", sparse)):
        laid, _ = lay_windows(boxes.astype(np.float32), shape, WindowConfig(WINDOW, None, MARGIN))
        low, high = boxes[:, :2] // WINDOW, (boxes[:, 2:] - 1) // WINDOW
        tiles = {
            (x, y)
            for (x0, y0), (x1, y1) in zip(low.astype(int), high.astype(int), strict=True)
            for x in range(x0, x1 + 1)
            for y in range(y0, y1 + 1)
        }
        cut = (low != high).any(axis=1).mean()
        per_100 = 100 / len(boxes)
        print(
            f"{name}: {len(boxes)} boxes; windows {len(laid) * per_100:.0f} per 100 boxes, none cut; "
            f"tiles of a grid {len(tiles) * per_100:.0f} per 100 boxes, {cut:.0%} of the boxes cut"
        )


def large(folder: Path) -> None:
    """Segment 10,000 boxes in an image of 4 gigapixels."""
    block, boxes = generated(BLOCK)
    image = zarr.create_array(
        folder / "large.zarr", shape=(SIDE * BLOCK,) * 2, chunks=(BLOCK, BLOCK), dtype="uint8", overwrite=True
    )
    for row in tqdm(range(SIDE), "large.zarr"):
        for column in range(SIDE):
            image[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = block
    rng = np.random.default_rng(0)
    at = rng.choice(SIDE * SIDE * len(boxes), LARGE_BOXES, replace=False)
    blocks, own = np.divmod(at, len(boxes))
    shifts = np.stack([blocks % SIDE, blocks // SIDE], axis=1) * BLOCK
    table = pd.DataFrame(boxes[own] + np.tile(shifts, 2), columns=XYXY)
    table.to_csv(folder / "boxes.csv", index=False)
    _segment(folder, "large.zarr")


def many(folder: Path, side: int, images: int, each: int) -> None:
    """Segment many images of `side` × `side` pixels, with so many boxes each."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    pictures = [generated(side, seed) for seed in range(PICTURES)]
    for number in tqdm(range(images), "images"):
        image, boxes = pictures[number % PICTURES]
        iio.imwrite(folder / f"images/{number:04}.png", image)
        rows += [(f"{number:04}.png", *box) for box in boxes[:each]]
    pd.DataFrame(rows, columns=["image", *XYXY]).to_csv(folder / "boxes.csv", index=False)
    _segment(folder, "images")


def _segment(folder: Path, images: str) -> None:
    before, started = _peak(), time.monotonic()
    segment_set(f"{folder}/{images}", [f"{folder}/boxes.csv"], folder / "out", None, MICRO, default_config())
    seconds = time.monotonic() - started
    table = pd.read_csv(folder / "out/objects.csv")
    print(f"{len(table)} boxes in {seconds:.0f} s; largest resident set {_peak():.0f} MB, {before:.0f} MB before")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed() -> None:
    """Print boxes per second of a slice's windows, without iterations, beside `SamPredictor` in a loop over boxes."""
    image, boxes = generated(1024)
    segmenter = load_segmenter(refine=merged(default_config()["segment"]["refine"], {"max_iterations": 0}))
    laid, owners = lay_windows(boxes.astype(np.float32), image.shape, segmenter.windows)
    stock = SamPredictor(segmenter.segmenter.sam)

    def ours() -> None:
        segmenter(image, boxes)

    def loop() -> None:
        for number, (y, x, side) in enumerate(laid):
            part = image[y : y + side, x : x + side]
            stock.set_image(np.stack([part] * 3, axis=-1))
            for box in boxes[owners == number]:
                stock.predict(box=box - [x, y, x, y], multimask_output=False)

    ratios = []
    for _ in range(ROUNDS):
        spent = []
        for way in (loop, ours):
            started = time.process_time()
            way()
            spent.append(time.process_time() - started)
        ratios.append(spent[0] / spent[1])
        print(f"loop {len(boxes) / spent[0]:.1f} boxes per CPU s, ours {len(boxes) / spent[1]:.1f}")
    print(f"{len(boxes)} boxes in {len(laid)} windows: × {np.median(ratios):.2f} (median of {ROUNDS})")


def from_pixels_to_masks() -> None:
    """Write the README's section: an image and its boxes by LooseBox and by others, its encoding included."""
    keep_freed_memory()  # as the stages do; it serves all ways
    image, boxes = generated(1024)
    boxes = boxes[np.linspace(0, len(boxes) - 1, PEERS_BOXES).astype(int)].astype(np.float32)
    colour, sam = np.stack([image] * 3, axis=-1), random_sam("vit_b")
    stock, own = SamPredictor(sam), peers.ultralytics_predictor(sam)

    def on_stock(way: Callable[[SamPredictor], Way]) -> Masks:
        stock.set_image(colour)
        return way(stock)(boxes)

    def on_ultralytics() -> Masks:
        own.set_image(colour)
        return peers.ultralytics_masks(own, CHUNK, boxes)

    ways: dict[str, Callable[[], Masks]] = {
        "`SamPredictor.predict`, box by box": partial(on_stock, peers.predict_loop),
        "`SamPredictor.predict_torch`": partial(on_stock, partial(peers.predict_torch, chunk=CHUNK)),
        "`micro_sam` `batched_inference`": partial(on_stock, partial(peers.micro_sam, chunk=CHUNK)),
        "`ultralytics` `SAM`": on_ultralytics,
    }
    with TemporaryDirectory() as folder:
        checkpoint = f"{folder}/vit_b.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in sam.state_dict().items()}, checkpoint)
        for precision, window in product(PRECISIONS, (None, 2.0)):
            refine = {"max_iterations": 0, "window": window}
            segmenter = load_segmenter(None, "vit_b", checkpoint, precision=precision, refine=refine)
            name = f"`load_segmenter`, {precision}{', in a window' if window else ''}"
            ways[name] = partial(masks_alone, segmenter, image, boxes)
    seconds = interleaved(ways, PEERS_ROUNDS)
    write_section("predict", f"{machine()}; medians of {PEERS_ROUNDS} rounds.\n\n{measured(ways, seconds, boxes)}")


def masks_alone(segmenter: LoadedSegmenter, image: NDArray[np.uint8], boxes: Boxes) -> Masks:
    """Of a segmenter's answer the masks."""
    return segmenter(image, boxes)[0]


def slices(results: Path, dataset: str, model: str) -> None:
    """Print mIoU of objects of whole slices, prompted at 20 and 40 %, beside that of the tables' tiles."""
    store = Store.open(results / f"convert/{dataset}.zarr")
    volumes = json.loads((results / f"raw/{dataset}/manifest.json").read_text())["volumes"]
    tables = pd.read_csv(results / "tables.csv").query("dataset == @dataset and model == @model")
    trained = results / f"train/{dataset}/{model}/0.safetensors"
    backbone = Backbone.read(results / "weights/manifest.json")
    segmenter = load_segmenter(trained, backbone.name, backbone.checkpoint)
    stacks = [(open_stack(volume["images"]), open_stack(volume["labels"])) for volume in volumes]
    for level in (20, 40):
        scores = pd.read_csv(results / f"score/{dataset}/{model}/0/{level}.csv").set_index(["tile", "object"])
        ious, both = [], []
        for place in (slice_ for slice_ in store.slices if slice_.split == "test"):
            image, labels = (stack[place.index].compute() for stack in stacks[place.volume])
            objects = components(labels, {"kind": "membrane", "membrane": 0}, minimum_area=64)
            found = pd.DataFrame(object_boxes(objects), columns=["object", *XYXY, "area"])
            z = store.slices.index(place)
            whole = [same_object(store, z, objects == number) for number in found["object"]]
            # of an object that no tile cuts, the tables' own draw of a box
            own = zip(whole, found["object"], strict=True)
            drawn = pd.DataFrame([key or (place.index, number) for key, number in own], columns=["tile", "object"])
            boxes = deviated(
                drawn.join(found[XYXY]), level, dataset, 0, Deviation(kind="scale", direction="both"), image.shape
            )
            masks, _ = segmenter(image, boxes)
            for key, number, mask in zip(whole, found["object"], masks, strict=True):
                ious.append(float(iou(mask, objects == number)))
                if key in scores.index:
                    both.append((ious[-1], float(str(scores.at[key, "iou_iterated"]))))
        tiles = tables.query("iterated and level == @level").iloc[0]
        in_slices, in_tiles = np.transpose(both)
        error = 1.96 * np.std(in_slices - in_tiles, ddof=1) / len(both) ** 0.5
        print(
            f"{dataset}, {model}, {level} %: whole slices {np.mean(ious):.3f} ({len(ious)} objects); "
            f"tiles {tiles['miou']:.3f} ({tiles['objects']} objects); of {len(both)} objects that no tile cuts "
            f"{in_slices.mean():.3f} and {in_tiles.mean():.3f}, a difference of {(in_slices - in_tiles).mean():+.3f} ± "
            f"{error:.3f} (95 % over objects)"
        )


def same_object(store: Store, z: int, mask: Mask) -> tuple[int, int] | None:
    """Tile and number of an object of a slice, if it lies whole in one tile."""
    per_slice = len(store) // len(store.slices)
    for tile in range(z * per_slice, (z + 1) * per_slice):
        _, y, x = store.origin(tile)
        height, width = store.shape(tile)
        part = mask[y : y + height, x : x + width]
        if part.sum() == mask.sum():
            numbers = np.unique(store.objects(tile)[part])
            return (tile, int(numbers[0])) if len(numbers) == 1 else None
    return None


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "slices":
        slices(Path(rest[0]), rest[1], rest[2])
    else:
        commands: dict[str, Callable[..., None]] = {
            "windows": windows,
            "large": large,
            "many": partial(many, side=256, images=2000, each=5),
            "dense": partial(many, side=1024, images=500, each=200),
            "speed": speed,
            "peers": from_pixels_to_masks,
        }
        commands[command](*map(Path, rest))
