"""What a large experiment stores, moves and computes, from a small one's files and the networks' own arithmetic.

python -m benchmarks.scaling RESULTS DATASET [--tflops N]

RESULTS is the folder of a finished experiment and DATASET one of its data sets, from which bytes per pixel, object and
prediction are taken. Prints the Markdown tables of docs/scaling.md.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.limit import decoder_flops, encoder_flops
from pipeline_lib.data.dataset import Store
from pipeline_lib.model.backbones import build, on_meta_device
from pipeline_lib.settings.model import ModelConfig, Token

GB, MB, KB = 1e9, 1e6, 1e3
STAGES = ("raw", "convert", "boxes", "embed", "train", "refine", "score")


@dataclass(frozen=True)
class Plan:
    """The large experiment. Slices are their own tiles; splits are 60 % to train, 20 % to validate, 20 % to test."""

    datasets: int = 100
    slices: int = 1000
    side: int = 1024  # pixels
    objects: int = 50  # in a slice
    models: int = 3
    seeds: int = 3
    levels: int = 5
    epochs: int = 10
    objects_per_tile: int = 16
    validation_objects: int = 500
    repeated: float = 2.0  # predictions of an object after the first

    @property
    def trainings(self) -> int:
        """Train jobs."""
        return self.datasets * self.models * self.seeds

    @property
    def tested(self) -> int:
        """Objects of a data set's test split."""
        return self.slices * self.objects // 5


@dataclass(frozen=True)
class Sizes:
    """Bytes that a finished experiment shows."""

    per_pixel: float  # of the converted store, images and objects
    per_box: float
    per_prediction: float  # of an object, in a refine table
    per_score: float
    model: float

    @classmethod
    def of(cls, results: Path, dataset: str) -> "Sizes":
        """From the files of one data set."""
        store, boxes = Store.open(results / f"convert/{dataset}.zarr"), results / f"boxes/{dataset}.csv"
        pixels = sum(height * width for height, width in map(store.shape, range(len(store))))
        tables = sorted((results / "refine" / dataset).rglob("*.parquet"))
        scores = sorted((results / "score" / dataset).rglob("*.csv"))
        models = sorted((results / "train" / dataset).rglob("*.safetensors"))
        return cls(
            per_pixel=weight(results / f"convert/{dataset}.zarr") / pixels,
            per_box=boxes.stat().st_size / len(pd.read_csv(boxes)),
            per_prediction=sum(map(weight, tables)) / sum(len(pd.read_parquet(table)) for table in tables),
            per_score=sum(map(weight, scores)) / sum(len(pd.read_csv(score)) for score in scores),
            model=sum(map(weight, models)) / len(models),
        )


BACKBONES = ("vit_b", "vit_l", "vit_h")  # all with the same decoder
PROPOSED = ModelConfig(trains=("mask_decoder", "deviation_token"), token=Token(width=128, count=1))
EMBEDDING = 256 * 64 * 64 * 2  # bytes of a tile, float16


def checkpoint(backbone: str) -> int:
    """Bytes of its weights, in float32."""
    with on_meta_device():
        return sum(tensor.nbytes for tensor in build(backbone).parameters())


def weight(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    columns = list(columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def amount(size: float) -> str:
    """Bytes, readable."""
    for unit, name in ((1e12, "TB"), (GB, "GB"), (MB, "MB"), (KB, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def measured(results: Path, dataset: str) -> str:
    """What each stage of the small experiment has written for a data set."""
    rows = []
    for stage in STAGES:
        files = [
            file
            for path in (results / stage).glob(f"{dataset}*")
            for file in (path, *path.rglob("*"))
            if file.is_file()
        ]
        rows.append((stage, str(len(files)), amount(sum(file.stat().st_size for file in files))))
    return table(("stage", "files", "bytes"), rows)


def traffic(plan: Plan, sizes: Sizes) -> str:
    """What one job reads and writes, and how many there are.

    Whoever uses embeddings reads their tiles too, once, to know that they are of these; embed reads them for that too.
    The backbone's file (of `vit_b`) is read once to know that it is the same, and by embed again for its weights.
    """
    store = plan.slices * plan.side**2 * sizes.per_pixel
    boxes = plan.slices * plan.objects * sizes.per_box
    iterations = plan.tested * (1 + plan.repeated)
    embeddings, rows = plan.slices * EMBEDDING, []
    backbone = checkpoint("vit_b")
    train = (
        backbone
        + 0.8 * store
        + plan.epochs * (0.6 * embeddings + 0.6 * store)
        + plan.epochs * min(0.2 * plan.slices, plan.validation_objects) * (EMBEDDING + store / plan.slices)
    )
    for stage, jobs, read, written, files in (
        ("convert", plan.datasets, plan.slices * plan.side**2 * 2, store, 2 * plan.slices),
        ("boxes", plan.datasets, store, boxes, 1),
        ("embed", plan.datasets, 2 * store + 2 * backbone, embeddings, plan.slices),
        ("train", plan.trainings, train, 5 * plan.epochs * sizes.model, 2),
        ("refine", plan.trainings * plan.levels, 0.2 * (embeddings + store), iterations * sizes.per_prediction, 2),
        (
            "score",
            plan.trainings * plan.levels,
            0.2 * store + iterations * sizes.per_prediction,
            plan.tested * sizes.per_score,
            1,
        ),
    ):
        rows.append((stage, f"{jobs:,}", amount(read), amount(written), amount(jobs * read), f"{jobs * files:,}"))
    return table(("stage", "jobs", "a job reads", "a job writes", "all jobs read", "files left"), rows)


def storage(plan: Plan, sizes: Sizes) -> str:
    """What lies on disk at the end."""
    cells = plan.trainings * plan.levels
    kept = {
        "convert": plan.datasets * plan.slices * plan.side**2 * sizes.per_pixel,
        "embed": plan.datasets * plan.slices * EMBEDDING,
        "train": plan.trainings * sizes.model,
        "refine": cells * plan.tested * (1 + plan.repeated) * sizes.per_prediction,
        "score": cells * plan.tested * sizes.per_score,
    }
    return table(
        ("stage", "bytes"),
        [*((stage, amount(size)) for stage, size in kept.items()), ("sum", amount(sum(kept.values())))],
    )


def gpu_hours(plan: Plan, encoder: float, decoder: float, tflops: float) -> list[str]:
    """Of embed, train (a step is three forwards) and refine; the sum; the longest chain's computing."""
    epoch = 0.6 * plan.slices * plan.objects_per_tile * 3 + plan.validation_objects * plan.levels
    one = {
        "embed": plan.slices * encoder,
        "train": plan.epochs * epoch * decoder,
        "refine": plan.tested * (1 + plan.repeated) * decoder,
    }
    jobs = {"embed": plan.datasets, "train": plan.trainings, "refine": plan.trainings * plan.levels}
    hours = {stage: flops / (tflops * 1e12) / 3600 for stage, flops in one.items()}
    each = [hours[stage] * jobs[stage] for stage in one]
    return [*(f"{value:.3g}" for value in (*each, sum(each))), f"{sum(hours.values()) * 60:.2g} min"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--tflops", type=float, default=50, help="that a GPU sustains; default %(default)s")
    given = parser.parse_args()
    plan, sizes = Plan(), Sizes.of(given.results, given.dataset)
    print(plan, sizes, sep="\n")
    print("\n## Measured\n", measured(given.results, given.dataset), sep="\n")
    print("\n## A job\n", traffic(plan, sizes), sep="\n")
    print("\n## On disk\n", storage(plan, sizes), sep="\n")
    encoders, decoder = {name: encoder_flops(name) for name in BACKBONES}, decoder_flops(PROPOSED)
    columns = (
        "backbone",
        "GFLOP a tile",
        "GFLOP a box",
        "embed",
        "train",
        "refine",
        "all, GPU hours",
        "longest chain",
    )
    rows = [
        (name, f"{encoder / 1e9:,.0f}", f"{decoder / 1e9:.2f}", *gpu_hours(plan, encoder, decoder, given.tflops))
        for name, encoder in encoders.items()
    ]
    print(f"\n## GPU hours at {given.tflops:g} TFLOP/s\n", table(columns, rows), sep="\n")


if __name__ == "__main__":
    main()
