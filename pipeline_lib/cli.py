"""The command `loosebox`: segmentation of one's own images without Snakemake, by the workflow's own stages.

click reads the arguments: well kept, and dask brings it anyway.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click

from pipeline_lib.api import backbone_choice, chosen_model
from pipeline_lib.commands.deviation import deviation_command
from pipeline_lib.commands.options import FILE, check_out, chosen_settings, out_option, segmenting
from pipeline_lib.commands.steps import Steps
from pipeline_lib.commands.track import track_command
from pipeline_lib.commands.train import train_command
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.example_set import write_example_set
from pipeline_lib.data.mask_formats.coco import COCO, COCO_POLYGONS
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR
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
log = logging.getLogger(__name__)
STEPS, WEIGHTS, PROMPTS, ITERATIONS = "steps", "weights.json", "prompts", "segment.parquet"  # what stages hand on


@click.group()
@click.version_option(package_name="loosebox")
def main() -> None:
    """Segment what loose boxes enclose, on electron-microscopy images."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)


@main.command("example")
@click.argument("folder", type=click.Path(path_type=Path))
def example_command(folder: Path) -> None:
    """Write generated images and boxes to FOLDER, with traps among the boxes, to try `predict` on."""
    write_example_set(folder)
    click.echo(f"{folder}/images, {folder}/boxes.csv, and the truth in {folder}/truth")


@main.command("predict")
@click.argument("images")
@click.argument("boxes", nargs=-1, required=True)
@segmenting
@click.option("--tiff", is_flag=True, help="Write label images for Fiji, too.")
@click.option("--geojson", is_flag=True, help="Write outlines for QuPath, too.")
@click.option("--rois", is_flag=True, help="Write regions for the ROI manager of Fiji, too.")
@click.option("--yolo", is_flag=True, help="Write labels to train YOLO on segmentation with, too.")
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
    subfolders. An interrupted call goes on where it was.
    """
    check_out(out, images, *boxes)
    try:
        settings, refine = chosen_settings(**options)
        model = chosen_model(model, backbone)
        choice = backbone_choice(backbone, model, checkpoint)
        segment_set(images, list(boxes), out, str(model) if model else None, choice, settings, refine)
        _write_outlines(out, {"geojson": geojson, "rois": rois, "yolo": yolo})
        shutil.rmtree(out / LABEL_TIFFS.file, ignore_errors=True)  # of a run before
        if tiff:
            label_tiffs(labels=str(out / OME_ZARR.file), tiffs=str(out / LABEL_TIFFS.file))
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}/predict.html, objects.csv, summary.csv, {COCO.file}, {OME_ZARR.file}")


main.add_command(train_command)
main.add_command(deviation_command)
main.add_command(track_command)


@main.command("export")
@click.argument("model", type=FILE)
@out_option
@click.option("--form", "forms", type=click.Choice(FORMS), multiple=True, default=FORMS[:1], show_default=True)
@click.option("--checkpoint", type=FILE, help="File of the backbone's weights, if not the released ones.")
@click.option("--curve", type=FILE, help="CSV beside the model, from which its card says how it was scored.")
def export_command(
    model: Path, out: Path, forms: tuple[ExportForm, ...], checkpoint: Path | None, curve: Path | None
) -> None:
    """Write MODEL, a trained one, as files that segment_anything, ONNX's runtime or transformers open."""
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
    click.echo(f"{out}/README.md says how each file is used")


def _write_outlines(out: Path, wanted: Mapping[OutlineForm, bool]) -> None:
    """Write the outlines of a finished set in some forms, and remove those of a run before."""
    prompts, iterations = (str(out / STEPS / name) for name in (PROMPTS, ITERATIONS))
    for form, is_wanted in wanted.items():
        shutil.rmtree(out / form, ignore_errors=True)
        if is_wanted:
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
    """Run the stages for one set, one after the other; what they hand on lies in the folder `steps` of `out`.

    Raises:
        DataError: an image, a box, the model or the weights cannot be used.
    """
    steps = out / STEPS
    steps.mkdir(parents=True, exist_ok=True)
    manifest, given, iterations = (str(steps / name) for name in (WEIGHTS, PROMPTS, ITERATIONS))
    weights(manifest=manifest, backbone=backbone, folder="resources")
    log.info("Model: %s", described(model, Backbone.read(manifest)))
    prompts(weights=manifest, prompts=given, images=images, boxes=boxes, settings=settings.prompts(), model=model)
    line = Steps(steps, files_digest([*sorted(Path(given).iterdir()), manifest, *([model] if model else [])]))
    read = {"prompts": given, "weights": manifest, "model": model}
    written = {"iterations": iterations, "timing": str(steps / "segment.json")}
    how = {"batch": settings.batch, "precision": settings.precision, "refine": refine, "shard": 0, "shards": 1}
    line.run("segment", segment, read, written, how, resumes=True)  # which takes nearly all of the time
    collect(
        prompts=given,
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
        mask_extent=refine.mask_extent,
        model=model,
    )
