"""The command `loosebox`: segmentation of one's own images without Snakemake, by the workflow's own stages.

click reads the arguments: well kept, and dask brings it anyway.
"""

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click
import yaml

from pipeline_lib.api import backbone_choice, chosen_model
from pipeline_lib.commands.deviation import deviation_command
from pipeline_lib.commands.steps import Steps
from pipeline_lib.commands.train import train_command
from pipeline_lib.config.defaults import segmentation
from pipeline_lib.config.files import check_files
from pipeline_lib.config.overlays import merged
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.box_formats.table import NAMES, names_help
from pipeline_lib.data.example_set import write_example_set
from pipeline_lib.data.mask_formats.coco import COCO, COCO_POLYGONS
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR
from pipeline_lib.data.model_header import described
from pipeline_lib.errors import DataError
from pipeline_lib.model.backbones import BACKBONES
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
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--model", type=FILE, help="Trained model. Default: the model that comes with LooseBox.")
@click.option("--backbone", type=click.Choice(list(BACKBONES)), help="Without --model, use this backbone as it is.")
@click.option("--checkpoint", type=FILE, help="File of the backbone's weights, if not the released ones.")
@click.option(
    "--format",
    "form",
    type=click.Choice(NAMES),
    help=f"Format of the boxes: {names_help()}. Default: the suffix and the content of each file decide.",
)
@click.option("--on-bad-box", type=click.Choice(["stop", "skip"]), help="Default: stop.")
@click.option(
    "--range",
    "grey_range",
    type=(float, float),
    help="Black and white of images that are not 8-bit. The larger number first inverts the contrast.",
)
@click.option(
    "--percentiles",
    type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
    help="The same as percentiles of each image, such as 0.5 99.5.",
)
@click.option(
    "--pixel-size",
    type=(float, float, float),
    help="Depth, height and width of a pixel, nm. Measurements in nm need them.",
)
@click.option("--channel", type=click.IntRange(min=0), help="Channel to segment, counted from 0.")
@click.option("--tiff", is_flag=True, help="Write label images for Fiji, too.")
@click.option("--geojson", is_flag=True, help="Write outlines for QuPath, too.")
@click.option("--rois", is_flag=True, help="Write regions for the ROI manager of Fiji, too.")
@click.option("--yolo", is_flag=True, help="Write labels to train YOLO on segmentation with, too.")
@click.option("--config", type=FILE, help="YAML with sections `segment` and `refine`, laid over the defaults.")
def predict_command(
    images: str,
    boxes: tuple[str, ...],
    out: Path,
    model: Path | None,
    backbone: str | None,
    checkpoint: Path | None,
    form: str | None,
    on_bad_box: str | None,
    grey_range: tuple[float, float] | None,
    percentiles: tuple[float, float] | None,
    pixel_size: tuple[float, float, float] | None,
    channel: int | None,
    tiff: bool,
    config: Path | None,
    **outline_forms: bool,
) -> None:
    """Segment the objects in IMAGES that BOXES enclose.

    IMAGES is a folder of TIFF, PNG, JPEG, BMP or MRC files, or one stack (TIFF, MRC, file.h5:dataset, Zarr). BOXES are
    files of boxes, or folders of them, in one of the formats that --format lists. An interrupted call goes on where it
    was.
    """
    options = {
        "format": form,
        "on_bad_box": on_bad_box,
        "grey": _grey(grey_range, percentiles),
        "channel": channel,
        "pixel_size": pixel_size and list(pixel_size),
    }
    if Path(images).resolve() == out.resolve():
        raise click.UsageError("--out is the folder of the images; name another")
    try:
        overlay = {"segment": {key: value for key, value in options.items() if value is not None}}
        written = _read_config(config) if config else {}
        segmentation(written)  # so that a section which is none is not hidden beneath an option
        settings, refine = segmentation(merged(written, overlay))
        model = chosen_model(model, backbone)
        choice = backbone_choice(backbone, model, checkpoint)
        segment_set(images, list(boxes), out, str(model) if model else None, choice, settings, refine)
        _write_outlines(out, {form for form, is_wanted in outline_forms.items() if is_wanted})
        shutil.rmtree(out / LABEL_TIFFS.file, ignore_errors=True)  # of a run before
        if tiff:
            label_tiffs(labels=str(out / OME_ZARR.file), tiffs=str(out / LABEL_TIFFS.file))
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}/predict.html, objects.csv, summary.csv, {COCO.file}, {OME_ZARR.file}")


main.add_command(train_command)
main.add_command(deviation_command)


@main.command("export")
@click.argument("model", type=FILE)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
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


def _grey(grey_range: tuple[float, float] | None, percentiles: tuple[float, float] | None) -> dict[str, Any] | None:
    if grey_range and percentiles:
        raise click.UsageError("give --range or --percentiles, not both")
    if grey_range:
        return {"range": list(grey_range)}
    return {"percentiles": list(percentiles)} if percentiles else None


def _read_config(file: Path) -> dict[str, Any]:
    check_files([file])
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except ValueError as error:  # no such date
        raise DataError(f"{file}: expected YAML: {error}") from error


def _write_outlines(out: Path, forms: set[str]) -> None:
    """Write the outlines of a finished set in some forms, and remove those of a run before."""
    prompts, iterations = (str(out / STEPS / name) for name in (PROMPTS, ITERATIONS))
    for form in get_args(OutlineForm):
        shutil.rmtree(out / form, ignore_errors=True)
        if form in forms:
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
