"""Boxes to masks after the image's embedding, ours and others': `python -m benchmarks.decode [--rounds 5]`.

A: some boxes of one image on a `vit_b` with random weights, those of its cells, or with corners anywhere. B: an image's
boxes, 30 % too large or too small, iterated until their masks settle, on a generated slice, with the weights of `micro`
and of LiteMedSAM.
Same weights, embedding and boxes for all, whole masks out, or those within `refine.window`. The peers come by
`pip install .[peers]`.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from benchmarks import peers
from benchmarks.limit import PRECISIONS, decoder_flops, peaks, products
from benchmarks.peers import Boxes, Masks, Way
from benchmarks.report import Seconds, by_operator, interleaved, machine, table, timed, write_section
from pipeline_lib.data.boxes import clip, deviate, grown
from pipeline_lib.data.masks import Mask, iou
from pipeline_lib.data.synthetic import GeneratedSlice
from pipeline_lib.inference.iterate import IterationConfig, first_predictions, iterate, output_of
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import build, load_backbone
from pipeline_lib.model.box_model import BoxModel, box_model
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import ImageFeatures
from pipeline_lib.runtime.device import Precision, autocast, device
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.pretraining import UNSEEN_SEED, draw_slice, objects_of

Network = Callable[[Sequence[ImageFeatures], torch.Tensor], object]  # `BoxModel`, as it is or compiled
PLAIN = ModelConfig(trains=("mask_decoder",), token=None)
SIZE = 512  # of the image, pixels
CHUNKS = (1, 4, 32)  # of which a peer is given its best
CALLS = (1, 4, 8, 16, 32, 64)  # boxes per call that ours is measured with
PEERS = {
    "`SamPredictor.predict_torch`": peers.predict_torch,
    "`micro_sam` `batched_inference`": peers.micro_sam,
    "`ultralytics` `SAM`": peers.ultralytics,
    "`transformers` `SamModel`": peers.transformers,
}
ITERATION = IterationConfig(tau=0.05, max_iterations=10, largest_component=False, select="last", lead=0.0)
WINDOW, WINDOWED = 2.0, ", in a window"  # of twice the prompted box, `refine.window`
LEVEL = 30  # per cent of deviation


def random_sam(name: str) -> Sam:
    """A backbone with random weights, those that start at zero too, and logits as large as those of trained ones."""
    torch.manual_seed(0)
    sam = build(name).requires_grad_(False)
    for parameter in sam.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    last = sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    last.weight *= 50
    last.bias *= 50
    return sam.to(device())


def released_sam(name: str) -> Sam:
    """A backbone whose weights are at hand."""
    with TemporaryDirectory() as folder:
        manifest = Path(folder, "manifest.json")
        weights(manifest=str(manifest), backbone={"name": name, "checkpoint": None}, folder=folder)
        return load_backbone(manifest).requires_grad_(False).to(device())


def look_at(sam: Sam, source: GeneratedSlice) -> SamPredictor:
    """A predictor on which a slice's image is set, stretched to 0–255 as `micro_sam` would."""
    grey = source.image.astype(np.float32)
    grey = (255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8)
    predictor = SamPredictor(sam)
    predictor.set_image(np.stack([grey] * 3, axis=-1))
    return predictor


def decoder_of(predictor: SamPredictor, precision: Precision, window: float | None = None) -> Predictor:
    """A predictor's model and image size as `pipeline_lib` has them."""
    frame = Frame(predictor.original_size, predictor.model.image_encoder.img_size)
    return Predictor(box_model(predictor.model, PLAIN), frame, precision, window)


def ours(predictor: SamPredictor, precision: Precision, window: float | None = None) -> Way:
    """`pipeline_lib.inference.predictor`, the image's side included."""
    decoder = decoder_of(predictor, precision, window)

    def run(boxes: Boxes) -> Masks:
        views = decoder.views([predictor.features], [predictor.original_size]) * len(boxes)
        return np.stack(decoder.predict(views, boxes)[0])

    return run


def best_chunk(make: Callable[[SamPredictor, int], Way], predictor: SamPredictor, boxes: Boxes) -> tuple[int, Way]:
    """The chunk of `CHUNKS` in which a way is fastest, by medians of three."""
    ways = {chunk: make(predictor, chunk) for chunk in CHUNKS}
    seconds = interleaved({str(chunk): partial(way, boxes) for chunk, way in ways.items()}, rounds=3)
    chunk = min(CHUNKS, key=lambda chunk: seconds[str(chunk)].busy)
    return chunk, ways[chunk]


def decode_ways(predictor: SamPredictor, boxes: Boxes) -> tuple[dict[str, Way], list[str]]:
    """Every way from boxes to masks by name, the reference first; and a line for each peer that is absent."""
    ways, skipped = {"`SamPredictor.predict`, box by box": peers.predict_loop(predictor)}, []
    for name, make in PEERS.items():
        try:
            chunk, way = best_chunk(make, predictor, boxes[:32])
            ways[f"{name}, chunks of {chunk}"] = way
        except ImportError as error:
            skipped.append(f"{name}: skipped, {error}")
    ways |= {f"ours, {precision}": ours(predictor, precision) for precision in PRECISIONS}
    ways |= {f"ours, {precision}{WINDOWED}": ours(predictor, precision, WINDOW) for precision in PRECISIONS}
    return ways, skipped


def inside(boxes: Boxes, masks: Masks) -> Masks:
    """What of masks (N, h, w) lies within the windows around boxes (N, 4)."""
    frame = Frame(masks.shape[1:], max(masks.shape[1:]))
    within: Masks = masks & frame.pixels(torch.from_numpy(grown(boxes, WINDOW))).numpy()
    return within


def rows_of(ways: Mapping[str, Callable[[], Masks]], seconds: dict[str, Seconds], boxes: Boxes) -> list[list[str]]:
    """Times of a box, times the reference's speed, and how far the masks are the reference's, of A in the window."""
    (reference, way), *_ = ways.items()
    whole, rows, count = way(), [], len(boxes)
    cut = inside(boxes, whole) if "loop" not in reference else whole  # iterated, a window moves with its box
    for name, way in ways.items():
        masks, expected = way(), cut if name.endswith(WINDOWED) else whole
        large = np.count_nonzero(expected, axis=(1, 2)) >= 64
        rows.append(
            [
                name,
                f"{1000 * seconds[name].busy / count:.1f}",
                f"× {seconds[reference].busy / seconds[name].busy:.2f}",
                f"{1000 * seconds[name].wall / count:.1f}",
                f"{100 * np.mean(masks == expected):.4f} %",
                f"{iou(masks, expected)[large].mean():.5f}",
            ]
        )
    return rows


def measured(ways: Mapping[str, Callable[[], Masks]], seconds: dict[str, Seconds], boxes: Boxes) -> str:
    """One table."""
    columns = ["way", "CPU ms a box", "speed", "wall ms a box", "pixels as the first's", "IoU with the first's"]
    return table(columns, rows_of(ways, seconds, boxes))


def limited(seconds: Mapping[str, Seconds], large: Iterable[str], count: int) -> str:
    """Benchmark F for A: ours beside the machine's peak of the same run."""
    peak, said = peaks(large, seconds)
    work = decoder_flops(PLAIN)
    rates = {each: work / (seconds[f"ours, {each}"].busy / count) for each in PRECISIONS}
    ours = ", ".join(
        f"{rate / 1e9:.0f} in {each} ({rate / peak[each]:.0%} of the peak)" for each, rate in rates.items()
    )
    return f"{work / 1e9:.2f} GFLOP a box, of which ours does in a CPU second {ours}. {said}"


def boxes_of_cells(source: GeneratedSlice, count: int) -> Boxes:
    """Boxes of a slice's cells, evenly spaced."""
    exact: Boxes = np.array([box for _, box in objects_of(source.cells)], np.float32)
    chosen: Boxes = exact[np.linspace(0, len(exact) - 1, count).astype(int)]
    return chosen


def boxes_anywhere(source: GeneratedSlice, count: int) -> Boxes:
    """Boxes with corners anywhere, a ninth of the tile on average."""
    corners = np.random.default_rng(0).uniform(0, SIZE, (count, 2, 2)).astype(np.float32)
    boxes: Boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return boxes


def decoding(name: str, draw: Callable[[GeneratedSlice, int], Boxes], count: int, rounds: int) -> str:
    """Benchmark A."""
    source = draw_slice(UNSEEN_SEED, SIZE)
    predictor, boxes = look_at(random_sam("vit_b"), source), draw(source, count)
    ways, skipped = decode_ways(predictor, boxes)
    calls, large = {name: partial(way, boxes) for name, way in ways.items()}, products()
    seconds = interleaved({**calls, **large}, rounds)
    title = f"**A. {count} boxes {name} of one tile, {SIZE} × {SIZE} pixels, vit_b with random weights**"
    return "\n\n".join([title, measured(calls, seconds, boxes), *skipped, limited(seconds, large, count)])


def chunking(rounds: int) -> str:
    """How many boxes per call of the network are best."""
    rows = []
    for name, precision in product(("vit_b", "micro"), PRECISIONS):
        model, images, boxes = alone(name, precision, max(CALLS))
        calls = {str(n): partial(in_chunks, model, images, boxes, n, precision) for n in CALLS}
        seconds = interleaved(calls, rounds)
        rows.append([f"{name}, {precision}", *(f"{1000 * each.busy / len(boxes):.1f}" for each in seconds.values())])
    return "**CPU ms a box by boxes per call**\n\n" + table(["network", *map(str, CALLS)], rows)


def compiling(rounds: int) -> str:
    """Whether torch's compiler would pay, for two calls of 16 boxes."""
    torch.compiler.config.force_disable_caches = True  # as on a machine that has not compiled it yet
    rows = []
    for precision in PRECISIONS:
        model, images, boxes = alone("vit_b", precision, 32)
        compiled = torch.compile(model, dynamic=False)
        start = timed(partial(in_chunks, compiled, images, boxes, 16, precision))
        models: dict[str, Network] = {"eager": model, "compiled": compiled}
        calls = {name: partial(in_chunks, each, images, boxes, 16, precision) for name, each in models.items()}
        seconds = interleaved(calls, rounds)
        rows.append([f"vit_b, {precision}", *(f"{1000 * each.busy / len(boxes):.1f}" for each in seconds.values())])
        rows[-1].append(f"{start.wall:.0f}")
    columns = ["network", "CPU ms a box", "compiled, CPU ms a box", "first call, wall s"]
    return "**`torch.compile`, which is not used**\n\n" + table(columns, rows)


def alone(name: str, precision: Precision, count: int) -> tuple[BoxModel, list[ImageFeatures], torch.Tensor]:
    """A network and some boxes of one image, whose side is computed."""
    model = box_model(random_sam(name), PLAIN)
    embedding = torch.randn(1, 256, *model.prompt_encoder.image_embedding_size, device=device())
    with autocast(precision):
        images = model.image_features([embedding]) * count
    return model, images, torch.tensor([[50.0, 60.0, 150.0, 170.0]], device=device()).repeat(count, 1)


def in_chunks(
    model: Network, images: Sequence[ImageFeatures], boxes: torch.Tensor, chunk: int, precision: Precision
) -> None:
    """The network alone."""
    with autocast(precision):
        for start in range(0, len(boxes), chunk):
            model(images[start : start + chunk], boxes[start : start + chunk])


def profiled(precision: Precision) -> str:
    """Where our time goes on vit_b: the operators' own shares of the processor's time."""
    predictor = look_at(random_sam("vit_b"), draw_slice(UNSEEN_SEED, SIZE))
    way, boxes = ours(predictor, precision), np.tile(np.array([[50, 60, 150, 170]], np.float32), (32, 1))
    return f"**Ours, {precision}, by operator**: {by_operator(partial(way, boxes))}."


def users_loop(predictor: SamPredictor, boxes: Boxes) -> Masks:
    """Predict, take the bounding box, predict: one box after the other, as one writes it on `SamPredictor`."""
    outputs = []
    for box in boxes:
        history = [predictor.predict(box=box, multimask_output=False)[0][0]]
        for _ in range(ITERATION.max_iterations):
            if not history[-1].any():
                break
            box = next_box(history[-1], ITERATION.largest_component)
            history.append(predictor.predict(box=box, multimask_output=False)[0][0])
            changed = np.count_nonzero(history[-1] ^ history[-2]) / ((box[2] - box[0]) * (box[3] - box[1]))
            if changed <= ITERATION.tau or (len(history) > 2 and np.array_equal(history[-1], history[-3])):
                break
        outputs.append(next((mask for mask in reversed(history) if mask.any()), history[0]))
    return np.stack(outputs)


def iterated(predictor: SamPredictor, decoder: Predictor, boxes: Boxes) -> Masks:
    """The same as `pipeline_lib.inference.iterate` does it: an image's side serves all predictions."""
    (view,) = decoder.views([predictor.features], [predictor.original_size])

    def predict(_: Sequence[int], boxes: Boxes) -> tuple[Sequence[Mask], NDArray[np.float32]]:
        return decoder.predict([view] * len(boxes), boxes)

    histories = iterate(predict, first_predictions(predict, boxes), ITERATION)
    return np.stack([history[output_of(history, ITERATION)].mask for history in histories])


def iterating(name: str, rounds: int) -> str:
    """Benchmark B."""
    source = draw_slice(UNSEEN_SEED, 256)
    predictor = look_at(released_sam(name), source)
    exact = np.array([box for _, box in objects_of(source.cells)], np.float32)
    uniform = np.random.default_rng(0).random((len(exact), 4))
    boxes = clip(deviate(exact, LEVEL, uniform, Deviation(kind="scale", direction="both")), predictor.original_size)
    ways = {"a loop on `SamPredictor.predict`": partial(users_loop, predictor, boxes)}
    for precision, window in product(PRECISIONS, (None, WINDOW)):
        decoder = decoder_of(predictor, precision, window)
        ways[f"ours, {precision}{WINDOWED if window else ''}"] = partial(iterated, predictor, decoder, boxes)
    title = f"**B. {len(boxes)} boxes at {LEVEL} % iterated until they settle, 256 × 256 pixels, {name}**"
    return f"{title}\n\n{measured(ways, interleaved(ways, rounds), boxes)}"


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, nargs="+", default=[32, 128], help="of benchmark A")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do; it serves all ways
    with torch.inference_mode():
        # first what a stage does in a fresh process, as large tensors leave holes in memory that later ones do not fit
        parts = [iterating(name, arguments.rounds) for name in ("micro", "litemedsam")]
        parts.append(chunking(arguments.rounds))
        parts += [decoding("of cells", boxes_of_cells, count, arguments.rounds) for count in arguments.boxes]
        parts.append(decoding("anywhere", boxes_anywhere, arguments.boxes[0], arguments.rounds))
        parts += [*map(profiled, PRECISIONS), compiling(arguments.rounds)]
    write_section("decode", "\n\n".join([f"{machine()}; medians of {arguments.rounds} rounds.", *parts]))


if __name__ == "__main__":
    main()
