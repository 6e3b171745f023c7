"""The command `loosebox`: run the stages of the workflow on a user's images, without Snakemake.

click reads the arguments. It is well kept, and dask needs it anyway.
"""

import logging
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click

from pipeline_lib.api import backbone_choice, chosen_model
from pipeline_lib.commands.options import FILE, check_out, chosen_settings, out_option, segmenting
from pipeline_lib.commands.steps import Steps, remove_outdated
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.example_set import write_example_set
from pipeline_lib.data.mask_formats.coco import COCO, COCO_POLYGONS
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR
from pipeline_lib.data.mask_formats.table import FROM_MASKS
from pipeline_lib.data.model_header import described
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.hashing import files_digest
from pipeline_lib.settings.backbone import BackboneChoice
from pipeline_lib.settings.export import ExportForm
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import OutlineForm, SegmentConfig
from pipeline_lib.stages.collect import collect
from pipeline_lib.stages.export import export
from pipeline_lib.stages.label_tiffs import label_tiffs
from pipeline_lib.stages.outlines import outlines
from pipeline_lib.stages.prompts import prompts
from pipeline_lib.stages.segment import segment
from pipeline_lib.stages.weights import weights

FORMS = get_args(ExportForm)
IN_MODULES = ("deviation", "track", "train")  # commands with a module of their own, by name
log = logging.getLogger(__name__)
STEPS, WEIGHTS, PROMPTS, ITERATIONS = "steps", "weights.json", "prompts", "segment.parquet"  # intermediate files


class Commands(click.Group):
    """The commands of this module, and those of `pipeline_lib.commands`, which are imported when they are used.

    Training needs torch's compiler, and `deviation` draws charts. `predict` would import them in vain.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in alphabetical order."""
        return sorted([*super().list_commands(ctx), *IN_MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of this name."""
        if cmd_name not in IN_MODULES:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"pipeline_lib.commands.{cmd_name}"), f"{cmd_name}_command")
        return command


@click.group(cls=Commands)
@click.version_option(package_name="loosebox")
def main() -> None:
    """Segment objects in electron-microscopy images from boxes that may be too large, too small or shifted."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)


@main.command("example")
@click.argument("folder", type=click.Path(path_type=Path))
def example_command(folder: Path) -> None:
    """Write an example for `predict` to FOLDER.

    The command generates images, and boxes in boxes.csv. Some boxes are bad on purpose, to show the checks of
    `predict`. FOLDER/truth has the true masks.
    """
    write_example_set(folder)
    click.echo(f"{folder}/images, {folder}/boxes.csv, and the true masks in {folder}/truth")


@main.command("predict")
@click.argument("images")
@click.argument("boxes", nargs=-1, required=True)
@segmenting
@click.option("--tiff", is_flag=True, help="Also write label images for Fiji.")
@click.option("--geojson", is_flag=True, help="Also write outlines for QuPath.")
@click.option("--rois", is_flag=True, help="Also write regions for Fiji's ROI manager.")
@click.option("--yolo", is_flag=True, help="Also write labels for training YOLO on segmentation.")
def predict_command(
    images: str,
    boxes: tuple[str, ...],
    out: Path,
    model: Path | None,
    backbone: str | None,
    checkpoint: Path | None,
    tiff: bool,
    geojson: bool,
    rois: bool,
    yolo: bool,
    **options: Any,
) -> None:
    """Segment the objects in IMAGES that BOXES enclose.

    IMAGES is a folder of TIFF, PNG, JPEG, BMP or MRC files, or one stack (TIFF, MRC, file.h5:dataset, Zarr). BOXES are
    files of boxes, or folders of them, in one of the formats that --format lists. Folders of both can have the same
    subfolders.

    The command writes label images, a table that measures each object (objects.csv), and predict.html, which shows the
    masks. If it is interrupted, the same command continues where it was.
    """
    check_out(out, images, *boxes)
    forms: dict[OutlineForm, bool] = {"geojson": geojson, "rois": rois, "yolo": yolo}
    chosen = [form for form, is_chosen in forms.items() if is_chosen]
    try:
        settings, refine = chosen_settings(**options)
        model = chosen_model(model, backbone)
        choice = backbone_choice(backbone, model, checkpoint)
        segment_set(images, list(boxes), out, str(model) if model else None, choice, settings, refine)
        for form, is_chosen in forms.items():
            remove_outdated(out / form, form, is_chosen)
        remove_outdated(out / LABEL_TIFFS.file, "tiff", tiff)
        _write_outlines(out, chosen)
        if tiff:
            label_tiffs(labels=str(out / OME_ZARR.file), tiffs=str(out / LABEL_TIFFS.file))
    except DataError as error:
        raise click.ClickException(str(error)) from error
    outputs = ["predict.html", "objects.csv", "summary.csv", *(each.file for each in FROM_MASKS), *chosen]
    outputs += [LABEL_TIFFS.file] if tiff else []
    click.echo(f"{out}/{', '.join(outputs)}")


@main.command("export")
@click.argument("model", type=FILE)
@out_option
@click.option(
    "--form",
    "forms",
    type=click.Choice(FORMS),
    multiple=True,
    default=FORMS[:1],
    show_default=True,
    help="Form to write. Can be given several times.",
)
@click.option("--checkpoint", type=FILE, help="File of the backbone's weights. Default: the released weights.")
@click.option("--curve", type=FILE, help="CSV of the model's training, for the validation scores in README.md.")
def export_command(
    model: Path, out: Path, forms: tuple[ExportForm, ...], checkpoint: Path | None, curve: Path | None
) -> None:
    """Convert MODEL for segment_anything, ONNX or transformers.

    MODEL is a file of a trained model (.safetensors). README.md in the folder says how to use each file.
    """
    try:
        choice = backbone_choice(None, model, checkpoint)
        with TemporaryDirectory() as folder:
            manifest = f"{folder}/weights.json"
            weights(manifest=manifest, backbone=choice, folder="resources")
            export(
                weights=manifest, model=str(model), export=str(out), forms=forms, curve=str(curve) if curve else None
            )
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}/README.md says how to use each file")


def _write_outlines(out: Path, forms: Iterable[OutlineForm]) -> None:
    """Write the outlines of a finished set in some forms."""
    prompts, iterations = (str(out / STEPS / name) for name in (PROMPTS, ITERATIONS))
    for form in forms:
        outlines(prompts=prompts, iterations=[iterations], outlines=str(out / form), form=form)


def segment_set(
    images: str,
    boxes: list[str],
    out: Path,
    model: str | None,
    backbone: BackboneChoice,
    settings: SegmentConfig,
    refine: RefineConfig,
) -> None:
    """Run the stages for one set of images, with intermediate files in the folder `steps` of `out`.

    Args:
        images: folder or stack of images.
        boxes: files or folders of boxes.
        out: folder to write.
        model: file of the model; None: the backbone as it is.
        backbone: backbone of the model.
        settings: section `segment`.
        refine: section `refine`.

    Raises:
        DataError: an image, a box, the model or the weights cannot be used.
    """
    steps = out / STEPS
    steps.mkdir(parents=True, exist_ok=True)
    manifest, folder, iterations = (str(steps / name) for name in (WEIGHTS, PROMPTS, ITERATIONS))

    # Check the weights, the images and the boxes.
    weights(manifest=manifest, backbone=backbone, folder="resources")
    log.info("Model: %s", described(model, Backbone.read(manifest)))
    prompts(weights=manifest, prompts=folder, images=images, boxes=boxes, settings=settings.prompts(), model=model)

    # Segment. This takes nearly all of the time, so it is skipped if it was finished before.
    sequence = Steps(steps, files_digest([*sorted(Path(folder).iterdir()), manifest, *([model] if model else [])]))
    inputs = {"prompts": folder, "weights": manifest, "model": model}
    outputs = {"iterations": iterations, "timing": str(steps / "segment.json")}
    parameters = {"batch": settings.batch, "precision": settings.precision, "refine": refine, "shard": 0, "shards": 1}
    sequence.run("segment", segment, inputs, outputs, parameters, resumes=True)

    # Write the outputs.
    collect(
        prompts=folder,
        iterations=[iterations],
        weights=manifest,
        labels=str(out / OME_ZARR.file),
        objects=str(out / "objects.csv"),
        summary=str(out / "summary.csv"),
        coco=str(out / COCO.file),
        coco_polygons=str(out / COCO_POLYGONS.file),
        page=str(out / "predict.html"),
        name=out.name,
        pixel_size=settings.pixel_size,
        flags=settings.flags,
        refine=refine,
        model=model,
    )
