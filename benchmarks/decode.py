"""Compare ways from boxes to masks, after the image is encoded: `python -m benchmarks.decode`.

All ways have the same weights, the same embedding and the same boxes. There are three parts:

A. Boxes of one image on a `vit_b` with random weights: boxes of cells, and boxes with corners anywhere.
B. Boxes that are 30 % too large or too small, iterated until their masks settle, on `micro` and on LiteMedSAM.
C. The time of a box for several numbers of boxes per call.

`transformers` must be installed: `pip install ".[export]"`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from benchmarks.measuring import interleaved, machine, table
from benchmarks.networks import (
    CONFIG,
    PRECISIONS,
    evenly_chosen,
    generated_cells,
    iterated,
    random_sam,
    released_sam,
)
from pipeline_lib.data.boxes import clip, deviate, grown
from pipeline_lib.data.masks import iou
from pipeline_lib.inference.iterate import output_of
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import BoxModel, box_model
from pipeline_lib.model.export import transformers_tensors
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import ImageFeatures
from pipeline_lib.runtime.device import Precision, autocast, device
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.model import ModelConfig

Boxes = NDArray[np.float32]  # (N, 4), XYXY, pixels of the image
Masks = NDArray[np.bool_]  # (N, h, w)
Way = Callable[[Boxes], Masks]

NO_TOKEN = ModelConfig(trains=("mask_decoder",), token=None)
SIZE = 512  # of the image of part A, pixels
CHUNK = 32  # boxes per call of other programs
CALLS = (1, 4, 8, 16, 32, 64)  # boxes per call of part C
WINDOW = 2.0  # `refine.mask_extent`: masks end at twice the prompted box
IN_WINDOW = ", in a window"
LEVEL = 30  # of deviation in part B, per cent


def predictor_on(sam: Sam, image: NDArray[np.uint8]) -> SamPredictor:
    """Return segment_anything's predictor with a grey image (h, w) set."""
    predictor = SamPredictor(sam)
    predictor.set_image(np.stack([image] * 3, axis=-1))
    return predictor


def predict_loop(predictor: SamPredictor, boxes: Boxes) -> Masks:
    """Call `SamPredictor.predict` for one box after the other."""
    return np.concatenate([predictor.predict(box=box, multimask_output=False)[0] for box in boxes])


def predict_torch(predictor: SamPredictor, boxes: Boxes) -> Masks:
    """Call `SamPredictor.predict_torch` for `CHUNK` boxes at a time."""
    scaled = predictor.transform.apply_boxes(boxes, predictor.original_size)
    parts = torch.from_numpy(scaled).float().to(predictor.device).split(CHUNK)
    masks = [predictor.predict_torch(None, None, boxes=part, multimask_output=False)[0] for part in parts]
    return torch.cat(masks)[:, 0].cpu().numpy()


def transformers_way(predictor: SamPredictor) -> Way:
    """Return a call of `transformers.SamModel` that uses the predictor's weights and embedding."""
    from transformers import SamConfig, SamImageProcessor, SamModel

    model, processor = SamModel(SamConfig()).eval().to(predictor.device), SamImageProcessor()
    model.load_state_dict(transformers_tensors(predictor.model.state_dict()), strict=False)

    @torch.inference_mode()
    def run(boxes: Boxes) -> Masks:
        scaled = predictor.transform.apply_boxes(boxes, predictor.original_size)
        masks = []
        for part in torch.from_numpy(scaled).float().to(predictor.device)[None].split(CHUNK, dim=1):
            output = model(image_embeddings=predictor.features, input_boxes=part, multimask_output=False)
            sizes = [predictor.original_size], [predictor.input_size]
            masks.append(processor.post_process_masks(output.pred_masks.cpu(), *sizes)[0][:, 0])
        return torch.cat(masks).numpy()

    return run


def our_decoder(predictor: SamPredictor, precision: Precision, window: float | None) -> Predictor:
    """Return our decoder with the weights and the image size of segment_anything's predictor."""
    frame = Frame(predictor.original_size, predictor.model.image_encoder.img_size)
    return Predictor(box_model(predictor.model, NO_TOKEN), frame, precision, window)


def ours(predictor: SamPredictor, decoder: Predictor, boxes: Boxes) -> Masks:
    """Predict with our decoder. The part that depends on the image alone is computed anew."""
    views = decoder.views([predictor.features], [predictor.original_size]) * len(boxes)
    return np.stack(decoder.predict(views, boxes)[0])


def iterated_loop(predictor: SamPredictor, boxes: Boxes) -> Masks:
    """Iterate one box after the other with `SamPredictor.predict`, as a user would write it."""
    outputs = []
    for box in boxes:
        history = [predictor.predict(box=box, multimask_output=False)[0][0]]
        for _ in range(CONFIG.refine.max_iterations):
            if not history[-1].any():
                break
            box = next_box(history[-1], CONFIG.refine.largest_component)
            history.append(predictor.predict(box=box, multimask_output=False)[0][0])
            changed = np.count_nonzero(history[-1] ^ history[-2]) / ((box[2] - box[0]) * (box[3] - box[1]))
            if changed <= CONFIG.refine.tau or (len(history) > 2 and np.array_equal(history[-1], history[-3])):
                break
        outputs.append(next((mask for mask in reversed(history) if mask.any()), history[0]))
    return np.stack(outputs)


def iterated_ours(predictor: SamPredictor, decoder: Predictor, boxes: Boxes) -> Masks:
    """Iterate all boxes together with our code."""
    views = decoder.views([predictor.features], [predictor.original_size]) * len(boxes)
    histories = iterated(decoder, views, boxes)
    return np.stack([history[output_of(history, CONFIG.refine)].mask for history in histories])


def comparison(ways: Mapping[str, Callable[[], Masks]], boxes: Boxes, rounds: int, cut: bool = True) -> str:
    """Time all ways, and compare their masks with those of the first way.

    With `cut`, masks of a way in a window are compared with what the first way's masks have within the window.
    """
    seconds, (reference, *_) = interleaved(ways, rounds), ways
    whole = ways[reference]()
    frame = Frame(whole.shape[1:], max(whole.shape[1:]))
    inside = whole & frame.pixels(torch.from_numpy(grown(boxes, WINDOW))).numpy()
    rows = []
    for name, way in ways.items():
        masks, expected = way(), inside if cut and name.endswith(IN_WINDOW) else whole
        large = np.count_nonzero(expected, axis=(1, 2)) >= 64
        busy, wall = (1000 * each / len(boxes) for each in (seconds[name].busy, seconds[name].wall))
        speed = seconds[reference].busy / seconds[name].busy
        equal, overlap = np.mean(masks == expected), iou(masks, expected)[large].mean()
        rows.append([name, f"{busy:.1f}", f"× {speed:.2f}", f"{wall:.1f}", f"{equal:.4%}", f"{overlap:.5f}"])
    columns = ["way", "CPU ms a box", "speed", "wall ms a box", "pixels as the first's", "IoU with the first's"]
    return table(columns, rows)


def first_masks(title: str, image: NDArray[np.uint8], boxes: Boxes, rounds: int) -> str:
    """Return the table of part A for some boxes."""
    predictor = predictor_on(random_sam("vit_b"), image)
    ways: dict[str, Callable[[], Masks]] = {
        "`SamPredictor.predict`, box by box": partial(predict_loop, predictor, boxes),
        f"`SamPredictor.predict_torch`, chunks of {CHUNK}": partial(predict_torch, predictor, boxes),
        f"`transformers` `SamModel`, chunks of {CHUNK}": partial(transformers_way(predictor), boxes),
    }
    for window, precision in product((None, WINDOW), PRECISIONS):
        decoder = our_decoder(predictor, precision, window)
        ways[f"ours, {precision}{IN_WINDOW if window else ''}"] = partial(ours, predictor, decoder, boxes)
    return f"**A. {title}, {SIZE} × {SIZE} pixels, vit_b**\n\n{comparison(ways, boxes, rounds)}"


def iterated_masks(name: str, rounds: int) -> str:
    """Return the table of part B for a backbone."""
    image, exact = generated_cells(256)
    predictor = predictor_on(released_sam(name), image)
    uniform = np.random.default_rng(0).random((len(exact), 4))
    boxes = clip(deviate(exact, LEVEL, uniform, CONFIG.deviation), predictor.original_size)
    ways: dict[str, Callable[[], Masks]] = {
        "a loop on `SamPredictor.predict`": partial(iterated_loop, predictor, boxes)
    }
    for precision, window in product(PRECISIONS, (None, WINDOW)):
        decoder = our_decoder(predictor, precision, window)
        ways[f"ours, {precision}{IN_WINDOW if window else ''}"] = partial(iterated_ours, predictor, decoder, boxes)
    # The window moves with the iterated box, so that no fixed part of the reference can be compared.
    return f"**B. {len(boxes)} boxes at {LEVEL} %, iterated, {name}**\n\n{comparison(ways, boxes, rounds, cut=False)}"


def in_calls(model: BoxModel, images: list[ImageFeatures], boxes: torch.Tensor, size: int) -> None:
    """Run the network on `size` boxes at a time."""
    for part in boxes.split(size):
        model(images[:size], part)


def chunks(names: Sequence[str], rounds: int) -> str:
    """Return the table of part C: the network alone, on equal boxes of one image."""
    rows = []
    for name, precision in product(names, PRECISIONS):
        model, count = box_model(random_sam(name), NO_TOKEN), max(CALLS)
        embedding = torch.randn(1, 256, *model.prompt_encoder.image_embedding_size, device=device())
        boxes = torch.tensor([[50.0, 60.0, 150.0, 170.0]], device=device()).repeat(count, 1)
        with autocast(precision):
            images = model.image_features([embedding]) * count
            calls = {str(size): partial(in_calls, model, images, boxes, size) for size in CALLS}
            seconds = interleaved(calls, rounds)
        rows.append([f"{name}, {precision}", *(f"{1000 * each.busy / count:.1f}" for each in seconds.values())])
    return "**C. CPU ms a box, by boxes per call**\n\n" + table(["network", *map(str, CALLS)], rows)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, nargs="+", default=[32, 128], help="numbers of boxes in part A")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do; it makes all ways faster
    image, cells = generated_cells(SIZE)
    corners = np.random.default_rng(0).uniform(0, SIZE, (arguments.boxes[0], 2, 2)).astype(np.float32)
    anywhere = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    print(machine(arguments.rounds))
    with torch.inference_mode():
        # B comes first: memory that large tensors of A and C leave behind would slow it down.
        for name in ("micro", "litemedsam"):
            print(f"\n{iterated_masks(name, arguments.rounds)}")
        for count in arguments.boxes:
            title = f"{count} boxes of cells"
            print(f"\n{first_masks(title, image, evenly_chosen(cells, count), arguments.rounds)}")
        print(f"\n{first_masks(f'{len(anywhere)} boxes anywhere', image, anywhere, arguments.rounds)}")
        print(f"\n{chunks(('micro', 'litemedsam', 'vit_b'), arguments.rounds)}")


if __name__ == "__main__":
    main()
