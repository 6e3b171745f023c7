"""A finished experiment: what each stage took, what orchestration took, and what the naive plan would have.

python -m benchmarks.experiment RESULTS LOG [--dataset NAME] [--rounds 5]

RESULTS is the experiment's folder, by whose name the README's section goes, and LOG Snakemake's own of the run that
made all of it (`.snakemake/log`). The naive plan is the same experiment as one writes it on segment_anything: encoder
in each step of training, and again for each model, level and iteration; one box at a time. It is computed from unit
costs on the experiment's own tiles and from counts of its own steps and iterations, and a part of both plans is run.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from segment_anything import SamPredictor

from benchmarks.decode import ITERATION
from benchmarks.peers import Boxes
from benchmarks.report import Seconds, interleaved, machine, table, write_section
from benchmarks.start import start
from benchmarks.train import Stages, ours, plain, recipe_of
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY, by_tile, deviated, evenly_spaced, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.inference.iterate import Inference, first_predictions, iterate
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import Embeddings, encode_tiles, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import device
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.training.sampling import LabelledTiles

LAW = Deviation(kind="scale", direction="both")
LEVELS = (0, 40)  # of the part that is run
MODELS = ("sam", "sam_p")  # of it: those that segment_anything can run, as they have no token
OBJECTS = 8  # of it, in a tile
TILES = 2  # of it, to infer and to train on
REPLACED = ("embed", "train", "refine")  # the stages that the naive plan has in other forms


# What the run took


@dataclass(frozen=True)
class Job:
    """A job as Snakemake's log has it."""

    rule: str
    threads: int
    finished: datetime


def jobs_of(log: str) -> Iterator[Job]:
    """The finished jobs, in the order in which they finished."""
    began = {}
    for block in re.split(r"^(?=\[)", log, flags=re.MULTILINE):
        stamp = re.match(r"\[(.+)\]\n", block)
        started = re.search(r"^(?:local)?rule (\w+):$", block, re.MULTILINE)
        number = re.search(r"jobid: (\d+)", block)
        if not stamp or not number:
            continue
        if started:
            threads = re.search(r"^ +threads: (\d+)", block, re.MULTILINE)
            began[number[1]] = started[1], int(threads[1]) if threads else 1
        elif "Finished jobid" in block:
            yield Job(*began[number[1]], datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y"))


def benchmarks_of(results: Path) -> pd.DataFrame:
    """Snakemake's `benchmark:` files, a row for each job, with its rule."""
    files = sorted((results / "benchmarks").rglob("*.tsv"))
    frames = [
        pd.read_csv(file, sep="\t").assign(rule=file.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv"))
        for file in files
    ]
    return pd.concat(frames)


def value_in(log: str, name: str) -> str:
    """What stands behind a name at the beginning of a line."""
    return next(line.removeprefix(name) for line in log.splitlines() if line.startswith(name))


@dataclass(frozen=True)
class Spent:
    """What a run took, in seconds; those of cores are of all that Snakemake was given."""

    wall: float
    cores: int
    starts: dict[str, Seconds]  # of a job, by rule
    jobs: pd.DataFrame
    threads: dict[str, int]

    @classmethod
    def of(cls, results: Path, log: Path, rounds: int) -> "Spent":
        """From the files of a finished run, and fresh interpreters."""
        text = log.read_text()
        jobs, rows = list(jobs_of(text)), benchmarks_of(results)
        counts = Counter(rows["rule"])
        logged = Counter(job.rule for job in jobs if job.rule != "all")
        if counts != logged:
            raise SystemExit(
                f"{log}: expected the run that made all of {results}; jobs are {dict(logged)}, files {dict(counts)}"
            )
        began = datetime.fromisoformat(value_in(text, "  Date: "))
        return cls(
            wall=(max(job.finished for job in jobs) - began).total_seconds(),
            cores=int(value_in(text, "Provided cores: ")),
            starts={rule: start(rule, rounds)[0] for rule in counts},
            jobs=rows,
            threads={job.rule: job.threads for job in jobs},
        )

    def core_seconds(self, rule: str) -> tuple[float, float]:
        """Of a rule's jobs: within the stage's function, and before it."""
        rows, threads = self.jobs.query("rule == @rule"), self.threads[rule]
        starting = np.minimum(rows["s"], self.starts[rule].wall).sum()
        return threads * (rows["s"].sum() - starting), threads * starting

    def by_rule(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each rule with its jobs."""
        return ((str(rule), jobs) for rule, jobs in self.jobs.groupby("rule", sort=False))

    @property
    def busy(self) -> dict[str, float]:
        """At most so many CPU seconds by rule, the jobs' starts included: all of their threads, all of the time.

        Snakemake's own `cpu_time` is of its last look at a process, up to half a minute before the end.
        """
        return {rule: float(jobs["s"].sum()) * self.threads[rule] for rule, jobs in self.by_rule()}


def spent_by_stage(spent: Spent) -> str:
    """A row for each stage, and the shares of the run's cores."""
    rows = []
    inside = before = 0.0
    for rule, jobs in spent.by_rule():
        function, starting = spent.core_seconds(rule)
        inside, before = inside + function, before + starting
        amounts = jobs["s"].sum(), jobs["cpu_time"].sum(), spent.starts[rule].wall, jobs["max_rss"].max()
        rows.append([rule, str(len(jobs)), *(f"{amount:.1f}" for amount in amounts)])
    whole = spent.cores * spent.wall
    columns = ["stage", "jobs", "wall s", "CPU s, last seen", "start of a job, wall s", "largest peak memory, MB"]
    shares = inside / whole, before / whole, 1 - (inside + before) / whole
    text = (
        f"The run took {spent.wall:.0f} s on {spent.cores} cores. Of the cores' time jobs within their stage's "
        f"function held {shares[0]:.1%}, jobs that were starting {shares[1]:.1%}, and neither {shares[2]:.1%}: "
        f"Snakemake planned or called, or no job was ready. All but the first is counted as orchestration: "
        f"**{1 - shares[0]:.1%}**."
    )
    return f"{table(columns, rows)}\n\n{text}"


# What the naive plan would have taken


@dataclass(frozen=True)
class Counts:
    """How often the naive plan calls what."""

    encodings: int = 0
    predictions: int = 0
    trained: int = 0  # objects in steps of training

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def inference_counts(iterations: Path) -> Counts:
    """Of a table of iterations: a tile is encoded as often as the object with the most iterations is predicted."""
    rows = pd.read_parquet(iterations, columns=["tile", "iteration"])
    return Counts(encodings=int((rows.groupby("tile")["iteration"].max() + 1).sum()), predictions=len(rows))


def training_counts(model: Path, boxes: pd.DataFrame) -> Counts:
    """Of a training: its epochs, and its validation at each level after each epoch and before the first."""
    training = ModelHeader.read(model).training
    settings, levels = training["settings"], len(training["levels"])
    sizes = boxes.query("split == 'train'").groupby("tile").size().clip(upper=settings["objects_per_tile"])
    held_out = evenly_spaced(boxes.query("split == 'validation'"), settings["validation_objects"])
    rounds = levels * (settings["epochs"] + 1)
    return Counts(
        encodings=rounds * held_out["tile"].nunique() + settings["epochs"] * len(sizes),
        predictions=rounds * len(held_out),
        trained=settings["epochs"] * int(sizes.sum()),
    )


def counts_of(results: Path) -> Counts:
    """Of a whole experiment."""
    counted = Counts()
    for iterations in (results / "refine").rglob("*.parquet"):
        counted += inference_counts(iterations)
    for model in (results / "train").rglob("*.safetensors"):
        dataset = model.relative_to(results / "train").parts[0]
        counted += training_counts(model, read_boxes(results / f"boxes/{dataset}.csv"))
    return counted


def stages_of(results: Path, dataset: str) -> Stages:
    """What an experiment's stages have written for a data set, with a few objects of a few tiles to train on."""
    store, manifest = results / f"convert/{dataset}.zarr", str(results / "weights/manifest.json")
    tiles, embeddings = Store.open(store), Embeddings.open(results / f"embed/{dataset}.zarr", store, manifest)
    source = LabelledTiles(tiles, embeddings, Frame(tiles.tile_shape, Backbone.read(manifest).image_size))
    return Stages(source, some_of(read_boxes(results / f"boxes/{dataset}.csv"), "train"), manifest)


def some_of(boxes: pd.DataFrame, split: str) -> pd.DataFrame:
    """`OBJECTS` of each of `TILES` tiles of a split: those with the most objects."""
    rows = boxes[boxes["split"] == split]
    tiles = rows["tile"].value_counts().index[:TILES]
    return rows[rows["tile"].isin(tiles)].groupby("tile").head(OBJECTS)


@dataclass(frozen=True)
class Units:
    """CPU seconds."""

    encoding: float  # of a tile, `SamPredictor.set_image`
    prediction: float  # of a box, `SamPredictor.predict`
    trained: float  # of an object in a step, the encoding apart

    @classmethod
    def measure(cls, stages: Stages, rounds: int) -> "Units":
        """On the first of the tiles to train on."""
        tile = int(stages.table["tile"].iloc[0])
        rows = stages.table[stages.table["tile"] == tile]
        predictor = SamPredictor(load_backbone(stages.weights).to(device()))
        pixels = np.stack([stages.source.tiles.pixels(tile)] * 3, axis=-1)
        box = rows[XYXY].to_numpy(np.float32)[0]
        predictor.set_image(pixels)
        ways: dict[str, Callable[[], object]] = {
            "encoding": partial(predictor.set_image, pixels),
            "prediction": partial(predictor.predict, box=box, multimask_output=False),
            "step": plain(Stages(stages.source, rows, stages.weights), recipe_of(len(rows), "float32")),
        }
        seconds = {name: each.busy for name, each in interleaved(ways, rounds).items()}
        encoding, prediction, step = seconds.values()
        return cls(encoding, prediction, (step - encoding) / len(rows))

    def of(self, counts: Counts) -> float:
        """What the counted calls take."""
        return self.encoding * counts.encodings + self.prediction * counts.predictions + self.trained * counts.trained


def computed(results: Path, spent: Spent, units: Units) -> str:
    """Both plans in CPU seconds: ours as measured in the run, the naive one by its counts."""
    counts, busy = counts_of(results), spent.busy
    replaced, naive = sum(busy[rule] for rule in REPLACED), units.of(counts)
    same = sum(busy.values()) - replaced
    rows = [
        [name, f"{own:,.0f}", f"{other:,.0f}", f"× {other / own:.1f}"]
        for name, own, other in (
            ("embed, train and refine", replaced, naive),
            ("all stages", replaced + same, naive + same),
        )
    ]
    text = (
        f"The naive plan makes {counts.encodings:,} encodings of {1000 * units.encoding:.0f} ms and "
        f"{counts.predictions:,} predictions of {1000 * units.prediction:.0f} ms, and trains on "
        f"{counts.trained:,} objects, {1000 * units.trained:.0f} ms each beside the encoding. This run's jobs are "
        "taken at all of their threads for all of their time, starts included; the naive plan has no starts."
    )
    return f"{table(['', 'this run, CPU s', 'naive plan, CPU s', 'ratio'], rows)}\n\n{text}"


# A part of both plans, run


def with_trained(weights: str, model: Path) -> Sam:
    """The backbone with the prompt encoder and mask decoder of a model without a token."""
    sam = load_backbone(weights)
    sam.load_state_dict(load_model(model).state_dict(), strict=False)
    return sam.to(device())


def naive_inference(predictor: SamPredictor, tile: np.ndarray, boxes: Boxes) -> None:
    """The iterations of a tile's boxes: in each, the encoder and then one box after the other."""
    pixels = np.stack([tile] * 3, axis=-1)

    def predict(_: Sequence[int], boxes: Boxes) -> tuple[Sequence[Mask], np.ndarray]:
        predictor.set_image(pixels)
        made = [predictor.predict(box=box, multimask_output=False) for box in boxes]
        return [masks[0] for masks, _, _ in made], np.array([ious[0] for _, ious, _ in made])

    iterate(predict, first_predictions(predict, boxes), ITERATION)


def naive_part(stages: Stages, models: Sequence[Path], tested: pd.DataFrame, dataset: str) -> None:
    """The part by the naive plan."""
    for model in models:
        plain(stages, recipe_of(OBJECTS, "float32"))()
        predictor = SamPredictor(with_trained(stages.weights, model))
        for level, (tile, rows) in product(LEVELS, by_tile(tested)):
            prompts = deviated(rows, level, dataset, 0, LAW, stages.source.tiles.shape(tile))
            naive_inference(predictor, stages.source.tiles.pixels(tile), prompts)


def our_part(stages: Stages, models: Sequence[Path], tested: pd.DataFrame, dataset: str) -> None:
    """The part by the stages' own functions, in bfloat16, which is their default."""
    source = stages.source
    sam = load_backbone(stages.weights).to(device())
    for tile in {*stages.table["tile"], *tested["tile"]}:
        encode_tiles(sam, [to_network(source.tiles.pixels(tile), source.frame)], "float32")
    for model in models:
        ours(stages, recipe_of(OBJECTS, "bfloat16"))()
        decoder = Predictor(load_model(model).to(device()), source.frame, "bfloat16")
        inference = Inference(decoder, ITERATION)
        for level in LEVELS:
            shapes = [source.tiles.shape(tile) for tile in tested["tile"]]
            prompts = deviated(tested, level, dataset, 0, LAW, shapes)
            inference.of(tested, prompts, source.embeddings.__getitem__, source.tiles.shape)


def run_outright(results: Path, dataset: str, stages: Stages, rounds: int) -> str:
    """The part by both plans."""
    models = [next((results / f"train/{dataset}/{model}").glob("*.safetensors")) for model in MODELS]
    tested = some_of(read_boxes(results / f"boxes/{dataset}.csv"), "test")
    arguments = (stages, models, tested, dataset)
    seconds = interleaved({"naive": partial(naive_part, *arguments), "ours": partial(our_part, *arguments)}, rounds)
    naive, own = seconds["naive"], seconds["ours"]
    return (
        f"**Run outright**, {len(models)} models, each trained for an epoch on {OBJECTS} objects in each of {TILES} "
        f"tiles and tested at {len(LEVELS)} levels on {len(tested)} objects in {TILES} tiles: the naive plan "
        f"in float32 {naive.busy:.1f} CPU s, ours in bfloat16 {own.busy:.1f}, "
        f"**× {naive.busy / own.busy:.1f}** ({naive.wall:.1f} and {own.wall:.1f} s of wall time)."
    )


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--dataset", help="whose tiles the unit costs are measured on; default: the first")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    keep_freed_memory()  # as the stages do
    dataset = given.dataset or min(path.stem for path in (given.results / "convert").glob("*.zarr"))
    stages = stages_of(given.results, dataset)
    spent = Spent.of(given.results, given.log, given.rounds)
    parts = [
        f"{machine()}; medians of {given.rounds} rounds; unit costs on {dataset}.",
        spent_by_stage(spent),
        computed(given.results, spent, Units.measure(stages, given.rounds)),
        run_outright(given.results, dataset, stages, given.rounds),
    ]
    write_section(f"experiment in {given.results.resolve().name}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
