"""The command `loosebox track`: follow objects through the slices of a volume, by the stages of the workflow."""

import logging
from pathlib import Path
from typing import Any

import click

from pipeline_lib.api import backbone_choice, chosen_model
from pipeline_lib.commands.options import check_out, chosen_settings, segmenting
from pipeline_lib.commands.steps import Steps, remove_outdated
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR
from pipeline_lib.data.model_header import described
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tracks import check_can_be_followed
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.hashing import files_digest
from pipeline_lib.settings.backbone import BackboneChoice
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import SegmentConfig
from pipeline_lib.stages.collect_tracks import collect_tracks
from pipeline_lib.stages.label_tiffs import label_tiffs
from pipeline_lib.stages.prompts import prompts
from pipeline_lib.stages.segment import segment
from pipeline_lib.stages.track import track
from pipeline_lib.stages.weights import weights

log = logging.getLogger(__name__)


@click.command("track")
@click.argument("volume")
@click.argument("boxes", nargs=-1, required=True)
@segmenting
@click.option("--tiff", is_flag=True, help="Also write the label image for Fiji.")
def track_command(
    volume: str,
    boxes: tuple[str, ...],
    out: Path,
    model: Path | None,
    backbone: str | None,
    checkpoint: Path | None,
    tiff: bool,
    **options: Any,
) -> None:
    """Follow the objects that BOXES enclose through the slices of VOLUME.

    VOLUME is a folder of slices (TIFF, PNG, JPEG, BMP), or one stack (TIFF, MRC, file.h5:dataset, Zarr). BOXES are
    files of boxes, or folders of them, in one of the formats that --format lists. An object needs a box in one slice.
    If it has boxes in several slices, they must have the same name in their file.

    The command writes a label image, tables of the objects (objects.csv) and of their slices (slices.csv), and
    track.html, which shows the objects. If it is interrupted, the same command continues where it was.
    """
    check_out(out, *boxes)
    if Path(volume).resolve() == out.resolve():
        raise click.UsageError("--out is the folder of the slices; name another folder")
    try:
        settings, refine = chosen_settings(stack=True, **options)
        model = chosen_model(model, backbone)
        choice = backbone_choice(backbone, model, checkpoint)
        track_volume(volume, list(boxes), out, str(model) if model else None, choice, settings, refine)
        remove_outdated(out / LABEL_TIFFS.file, "tiff", tiff)
        if tiff:
            label_tiffs(labels=str(out / OME_ZARR.file), tiffs=str(out / LABEL_TIFFS.file))
    except DataError as error:
        raise click.ClickException(str(error)) from error
    outputs = ["track.html", "objects.csv", "slices.csv", OME_ZARR.file, *([LABEL_TIFFS.file] if tiff else [])]
    click.echo(f"{out}/{', '.join(outputs)}")


def track_volume(
    volume: str,
    boxes: list[str],
    out: Path,
    model: str | None,
    backbone: BackboneChoice,
    settings: SegmentConfig,
    refine: RefineConfig,
) -> None:
    """Run the stages for one volume, with intermediate files in the folder `steps` of `out`.

    Args:
        volume: stack, or folder of slices.
        boxes: files or folders of boxes.
        out: folder to write.
        model: file of the model; None: the backbone as it is.
        backbone: backbone of the model.
        settings: section `segment`.
        refine: section `refine`.

    Raises:
        DataError: a slice, a box, the model or the weights cannot be used.
    """
    steps = out / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    names = ("weights.json", "prompts", "segment.parquet", "track.parquet")
    manifest, folder, iterations, tracks = (str(steps / name) for name in names)

    # Check the weights, the slices and the boxes.
    weights(manifest=manifest, backbone=backbone, folder="resources")
    log.info("Model: %s", described(model, Backbone.read(manifest)))
    prompts(weights=manifest, prompts=folder, images=volume, boxes=boxes, settings=settings.prompts(), model=model)
    check_can_be_followed(Prompts.read(folder))

    # Segment the slices of the boxes.
    sequence = Steps(steps, files_digest([*sorted(Path(folder).iterdir()), manifest, *([model] if model else [])]))
    inputs: dict[str, Any] = {"prompts": folder, "weights": manifest, "model": model}
    parameters: dict[str, Any] = {"batch": settings.batch, "precision": settings.precision, "refine": refine}
    parameters |= {"shard": 0}
    outputs = {"iterations": iterations, "timing": str(steps / "segment.json")}
    sequence.run("segment", segment, inputs, outputs, parameters | {"shards": 1}, resumes=True)

    # Follow the objects from there.
    one_shard = settings.track.model_copy(update={"shards": 1})
    parameters |= {"settings": settings.prompts(), "track": one_shard}
    sequence.run("track", track, inputs | {"iterations": [iterations]}, {"tracks": tracks}, parameters, resumes=True)

    # Write the outputs.
    collect_tracks(
        prompts=folder,
        tracks=[tracks],
        weights=manifest,
        labels=str(out / OME_ZARR.file),
        objects=str(out / "objects.csv"),
        slices=str(out / "slices.csv"),
        page=str(out / "track.html"),
        name=out.name,
        pixel_size=settings.pixel_size,
        flags=settings.track.flags,
        model=model,
    )
