"""The command `loosebox train`: fine-tune a model on a few labelled images, without a configuration file."""

import logging
import os
import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline_lib.api import backbone_choice
from pipeline_lib.commands.options import check_out, labels_are_option, minimum_area_option, out_option
from pipeline_lib.commands.steps import Steps
from pipeline_lib.config.defaults import segmentation
from pipeline_lib.config.fine_tuning import (
    default_deviation,
    default_embedding,
    fine_tuning,
    shape_over_backbone,
    untrained,
)
from pipeline_lib.data.boxes import read_boxes
from pipeline_lib.data.labelled_images import (
    LabelledStack,
    LabelsAre,
    label_rule,
    labelled_stacks,
    take_part,
    volumes_of,
)
from pipeline_lib.data.measured_deviations import read_moves
from pipeline_lib.data.model_header import SHIPPED, ModelHeader, model_path
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.fine_tuning import When, gains
from pipeline_lib.model.backbones import BACKBONES
from pipeline_lib.report.fine_tuning import FineTuning, fine_tuning_page, images_table
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.hashing import file_digest
from pipeline_lib.settings.backbone import BackboneChoice
from pipeline_lib.settings.base import GreyRange
from pipeline_lib.settings.boxes import MeasuredMix
from pipeline_lib.settings.datasets import BinaryLabels, Labels, PathSource
from pipeline_lib.settings.experiment import TestedObjects
from pipeline_lib.settings.fine_tuning import FineTuneConfig
from pipeline_lib.settings.messages import parsed
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.convert import convert
from pipeline_lib.stages.embed import embed
from pipeline_lib.stages.raw import raw
from pipeline_lib.stages.refine import refine
from pipeline_lib.stages.score import score
from pipeline_lib.stages.train import train
from pipeline_lib.stages.weights import weights

DATASET = "labelled"  # name of the data set; the random boxes depend on it
DEFAULTS = FineTuneConfig()
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The model or backbone that training starts from."""

    name: str
    """`shipped`, the name of a backbone, or the file of a model."""
    backbone: BackboneChoice
    """The network, and the file of its weights."""
    model: Path | None
    """File of the model that training starts from. None: the backbone's own decoder."""
    shape: ModelConfig
    """Shape of the model that is trained."""

    @property
    def description(self) -> str:
        """What training starts from, for the page."""
        if self.model is None:
            return f"the decoder of the backbone {self.name}, with a new deviation token and image adapter"
        return "the model that comes with LooseBox" if self.name == SHIPPED else f"the model {self.name}"


@click.command("train")
@click.argument("images")
@click.argument("labels", nargs=-1, required=True)
@out_option
@click.option(
    "--from",
    "start",
    default=SHIPPED,
    show_default=True,
    help=f"What training starts from: {SHIPPED} (the model that comes with LooseBox), the file of a model, or a "
    f"backbone ({', '.join(BACKBONES)}).",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=DEFAULTS.held_out,
    show_default=True,
    help="Share of the images that are held out from training, at least one image. They pick the best epoch, and "
    "train.html reports their scores.",
)
@click.option("--objects", type=click.IntRange(1), help="Largest number of training objects. Default: all.")
@click.option(
    "--epochs",
    type=click.IntRange(0),
    help=f"Number of epochs. Default: enough for {DEFAULTS.steps} steps of {DEFAULTS.tiles_per_step} tiles, but at "
    f"most {DEFAULTS.most_epochs}.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=DEFAULTS.seed,
    show_default=True,
    help="Seed of all random numbers.",
)
@click.option(
    "--tile",
    type=click.IntRange(16),
    default=DEFAULTS.tile,
    show_default=True,
    help="Side of the tiles that images are cut into, pixels. Tiles must be larger than the objects.",
)
@minimum_area_option
@click.option(
    "--deviations",
    type=click.Path(exists=True, dir_okay=False),
    help="File deviations.csv of `loosebox deviation`. Training boxes deviate like the boxes in it. Default: by 0 to "
    "40 %.",
)
@click.option(
    "--range",
    "grey_range",
    type=(float, float),
    help="Grey values that become black and white, for images that are not 8-bit.",
)
@labels_are_option
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the backbone's weights. Default: the released weights.",
)
def train_command(
    images: str,
    labels: tuple[str, ...],
    out: Path,
    start: str,
    grey_range: tuple[float, float] | None,
    labels_are: LabelsAre | None,
    checkpoint: Path | None,
    deviations: str | None,
    **settings: Any,
) -> None:
    """Fine-tune a model on IMAGES with LABELS.

    IMAGES is a folder of TIFF, PNG, JPEG, BMP or MRC files of any sizes, or one stack (TIFF, file.h5:dataset, Zarr).
    LABELS is a folder of label images with the names of their images, one stack of label images, or files of outlines:
    COCO (.json), or Fiji's regions (.zip or .roi, with the name of their image). Images without labels are ignored.

    The command writes model.safetensors, which `predict --model` uses, and train.html, which shows what training gained
    on the held-out images. If it is interrupted, the same command continues where it was.
    """
    check_out(out, images, *labels)
    if grey_range and grey_range[0] >= grey_range[1]:
        raise click.UsageError(f"--range: expected black below white, found {grey_range[0]:g} and {grey_range[1]:g}")
    if deviations:
        settings["mix"] = {"deviations": deviations}
    try:
        config = parsed(FineTuneConfig, settings, "train")
        fine_tune(images, labels, out, start_of(start, checkpoint, config), config, grey_range, labels_are)
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}/train.html, model.safetensors, results.csv, train.csv")


def start_of(name: str, checkpoint: Path | None, config: FineTuneConfig) -> Start:
    """Return what training starts from.

    Args:
        name: `shipped`, the name of a backbone, or the file of a model.
        checkpoint: file of the backbone's weights; None: the released weights.
        config: settings of the training.

    Raises:
        DataError: there is no backbone and no file of this name, or the file is not a model.
    """
    if name in BACKBONES:
        return Start(name, backbone_choice(name, None, checkpoint), None, shape_over_backbone(config))
    file = model_path(name)
    if not file.is_file():
        raise DataError(
            f"--from {name}: expected {SHIPPED}, the file of a model, or one of {', '.join(BACKBONES)}; found no file "
            "of this name; check the path"
        )
    try:
        header = ModelHeader.read(file)
    except DataError as error:
        raise DataError(
            f"--from {name}: expected a model that `loosebox train` or the stage train wrote, found another file; "
            "check the path"
        ) from error
    shape = parsed(ModelConfig, header.model_config, name)
    return Start(name, backbone_choice(None, file, checkpoint), file, shape)


def fine_tune(
    images: str,
    labels: tuple[str, ...],
    out: Path,
    start: Start,
    config: FineTuneConfig,
    grey_range: GreyRange | None,
    labels_are: LabelsAre | None,
) -> None:
    """Run the stages of the workflow, with intermediate files in the folder `steps` of `out`.

    Args:
        images: folder or stack of images.
        labels: folder or stack of label images, or files of outlines.
        out: folder to write.
        start: model or backbone that training starts from.
        config: settings of the training.
        grey_range: grey values that become black and white; None: images are 8-bit.
        labels_are: meaning of label values; None: it follows from the values.

    Raises:
        DataError: an image, a label, the model or the weights cannot be used.
    """
    steps = out / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    names = ("weights.json", "manifest.json", f"{DATASET}.zarr", "all_boxes.csv", "boxes.csv", "embeddings.zarr")
    backbone, manifest, store, all_boxes, table, embeddings = (str(steps / name) for name in names)

    # Check all inputs before anything is computed from them.
    stacks = labelled_stacks(images, labels, grey_range, steps / "labels")
    rule, volumes = label_rule(stacks, labels_are), volumes_of(stacks, config.held_out)
    source = PathSource(kind="path", folder=str(out))  # not used: the paths of the volumes are absolute
    weights(manifest=backbone, backbone=start.backbone, folder="resources")
    raw(manifest=manifest, source=source, volumes=volumes, grey_range=grey_range)
    log.info("%s", label_words(rule))

    # Cut tiles, find the exact boxes of their objects, and encode the tiles.
    inputs: list[str | Path] = [backbone, manifest, *([start.model] if start.model else [])]
    if isinstance(config.mix, MeasuredMix):
        read_moves(config.mix.deviations)
        inputs.append(config.mix.deviations)
    sequence = Steps(steps, *map(file_digest, inputs))
    tiling: dict[str, Any] = {"labels": rule, "minimum_area": config.minimum_area, "pixel_size": (1.0, 1.0, 1.0)}
    tiling |= {"grey_range": grey_range, "tile": config.tile}
    sequence.run("convert", convert, {"manifest": manifest}, {"store": store}, tiling)
    sequence.run("boxes", boxes, {"store": store}, {"boxes": all_boxes}, {})
    limits = {"objects": config.objects, "held_out": config.tested_objects}
    sequence.run("take_part", take_part, {"boxes": all_boxes}, {"chosen": table}, limits)
    data = {"store": store, "boxes": table, "weights": backbone}
    outputs = {"embeddings": embeddings, "timing": str(steps / "embed.json")}
    sequence.run("embed", embed, data, outputs, dict(default_embedding()), resumes=True)

    # Test the model that training starts from on the held-out objects.
    data |= {"embeddings": embeddings}
    model, curve = str(out / "model.safetensors"), str(out / "train.csv")
    first = str(start.model or steps / "start.safetensors")
    run_train = partial(run_training, sequence, data, config.seed)
    if start.model is None:
        run_train("start", untrained(config), {"model": first, "curve": str(steps / "start.csv")}, None)
    levels = config.tested_levels
    scores: dict[tuple[When, int], str] = {}
    scores |= {("before", level): run_test(sequence, data, "before", level, first, config) for level in levels}

    # Train, and test the new model on the same objects.
    objects = read_boxes(table)
    tiles = objects.loc[objects["split"] == "train", "tile"].nunique()
    training = fine_tuning(config, start.shape, start.name if start.model else None, tiles)
    log.info("%d epochs on %d tiles", training.train.epochs, tiles)
    run_train("train", training, {"model": model, "curve": curve}, start.model)
    scores |= {("after", level): run_test(sequence, data, "after", level, model, config) for level in levels}

    # Write the results and the page.
    cut = int(((objects["x1"] - objects["x0"]).clip(lower=objects["y1"] - objects["y0"]) >= config.tile).sum())
    if cut:
        log.warning("%d of %d objects are as large as their tile or larger; set a larger --tile", cut, len(objects))
    results = gains({key: read_table(path) for key, path in scores.items()})
    with atomic(out / "results.csv") as unfinished:
        results.to_csv(unfinished, index=False, float_format="%.6f")
    usage = ["loosebox", "predict", "IMAGES", "BOXES", "--out", "FOLDER", "--model", os.path.abspath(model)]
    usage += [] if grey_range is None else ["--range", *map("{:g}".format, grey_range)]
    tuning = FineTuning(
        name=out.resolve().name,
        start=start.description,
        labels=label_words(rule),
        usage=shlex.join(usage),
        gains=results,
        curve=read_table(curve),
        objects=objects,
        tested=int(results["objects"].iloc[0]),
        cut=cut,
        images=images_table(store, objects, [image_name(stacks, volume.images) for volume in volumes]),
        settings=shown_settings(config, training, grey_range),
    )
    with atomic(out / "train.html") as unfinished:
        unfinished.write_text(fine_tuning_page(tuning, backbone), encoding="utf-8")
    for row in results.to_dict("records"):
        log.info("deviation %2d %%: mIoU %.3f before, %.3f after", row["level"], row["before"], row["after"])


def run_training(
    sequence: Steps,
    data: dict[str, str],
    seed: int,
    name: str,
    training: TrainingConfig,
    outputs: dict[str, str],
    start: Path | None,
) -> None:
    """Run the stage train on the labelled images.

    Args:
        sequence: Stages that run one after the other.
        data: files of the data set: `store`, `boxes`, `embeddings` and `weights`.
        seed: seed of the training.
        name: name of the step.
        training: settings of the training.
        outputs: files to write: `model` and `curve`.
        start: file of the model that training starts from; None: the backbone's own decoder.
    """
    inputs: dict[str, Any] = {"stores": [data["store"]], "boxes": [data["boxes"]], "embeddings": [data["embeddings"]]}
    inputs |= {"weights": data["weights"], "start": str(start) if start else None}
    settings = {"dataset": DATASET, "training": training, "seed": seed}
    sequence.run(name, train, inputs, outputs, settings, resumes=True)


def run_test(sequence: Steps, data: dict[str, str], when: When, level: int, model: str, config: FineTuneConfig) -> str:
    """Segment the held-out objects as `predict` does, and return the file of their scores.

    Args:
        sequence: Stages that run one after the other.
        data: files of the data set: `store`, `boxes`, `embeddings` and `weights`.
        when: whether the model is the one before or after training.
        level: deviation of the boxes, per cent.
        model: file of the model.
        config: settings of the training.
    """
    _, refinement = segmentation({})
    tested = TestedObjects(split="validation", objects=config.tested_objects)
    name, folder = f"{when}-{level}", sequence.folder / when
    history, scores = str(folder / f"{level}.parquet"), str(folder / f"{level}.csv")
    settings = {"dataset": DATASET, "level": level, "seed": config.seed, "tested": tested}
    settings |= {"deviation": default_deviation(), "refine": refinement}
    outputs = {"iterations": history, "timing": str(folder / f"{level}.json")}
    sequence.run(f"{name}-refine", refine, data | {"model": model}, outputs, settings, resumes=True)
    inputs = {"store": data["store"], "boxes": data["boxes"], "iterations": history}
    sequence.run(f"{name}-score", score, inputs, {"scores": scores}, {"tested": tested})
    return scores


def image_name(stacks: list[LabelledStack], path: str) -> str:
    """Return the name of the image at a path."""
    return next(stack.name for stack in stacks if stack.images == path)


def label_words(rule: Labels) -> str:
    """Return a sentence that says what the label values mean."""
    if isinstance(rule, BinaryLabels):
        return f"Labels are binary: each connected component of the value {rule.foreground} is an object."
    return "Labels number the objects: each value except 0 is an object. An object in two parts becomes two objects."


def shown_settings(
    config: FineTuneConfig, training: TrainingConfig, grey_range: GreyRange | None
) -> dict[str, str | int | float]:
    """Return the settings that the page shows."""
    train, mix = training.train, training.mix
    if isinstance(mix, MeasuredMix):
        looseness = f"as in {mix.deviations}"
    else:
        looseness = ", ".join(f"{share:.0%} at {level} %" for level, share in zip(mix.levels, mix.shares, strict=True))
    return {
        "share held out": f"{config.held_out:g}",
        "training objects": "all" if config.objects is None else f"at most {config.objects}",
        "smallest object": f"{config.minimum_area} pixels",
        "tile": f"{config.tile} pixels",
        "black and white": "8-bit images as they are" if grey_range is None else "{:g} and {:g}".format(*grey_range),
        "trained parts": ", ".join(training.model.trains),
        "deviation of training boxes": looseness,
        "epochs": train.epochs,
        "step": f"{train.tiles_per_step} tiles with up to {train.objects_per_tile} objects each",
        "learning rate": f"{train.learning_rate:g}",
        "seed": config.seed,
    }
