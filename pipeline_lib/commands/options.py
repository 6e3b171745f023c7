"""Options that several commands share."""

import os
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from pipeline_lib.config.defaults import segmentation
from pipeline_lib.config.files import check_files
from pipeline_lib.config.overlays import merged
from pipeline_lib.data.box_formats.table import NAMES, names_help
from pipeline_lib.errors import DataError
from pipeline_lib.model.backbones import BACKBONES
from pipeline_lib.settings.fine_tuning import FineTuneConfig
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import SegmentConfig

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _writable(_: click.Context, __: click.Parameter, folder: Path) -> Path:
    """Return a folder in which files can be written, or that can be made."""
    # os.path.exists, as Path.exists raises below a folder that cannot be entered
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not there.is_dir():
        raise click.BadParameter(f"{there} is a file, so {folder} cannot be made; name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise click.BadParameter(f"nothing can be written in {there}; name another folder, or change its permissions")
    return folder


def check_out(out: Path, *inputs: str) -> None:
    """Refuse a folder for outputs in a folder that is read whole: the next run would take outputs for inputs.

    Args:
        out: Folder to write.
        inputs: Files or folders to read.

    Raises:
        UsageError: `out` is one of the folders, or lies in it.
    """
    for place in map(Path, inputs):
        if place.is_dir() and place.resolve() in (out.resolve(), *out.resolve().parents):
            raise click.UsageError(f"--out lies in {place}, whose files and folders are all read; name another folder")


out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_writable,
    required=True,
    help="Folder to write.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(NAMES),
    help=f"Format of the boxes: {names_help()}. Default: the suffix and the content of each file decide.",
)
labels_are_option = click.option(
    "--labels-are",
    type=click.Choice(["instances", "binary"]),
    help="instances: each number is an object. binary: each connected part is an object. "
    "Default: binary if there is one value besides 0, else instances.",
)
minimum_area_option = click.option(
    "--minimum-area",
    type=click.IntRange(1),
    default=FineTuneConfig().minimum_area,
    show_default=True,
    help="Smallest object, pixels.",
)
OPTIONS = (  # of `predict` and `track`
    out_option,
    click.option("--model", type=FILE, help="Trained model. Default: the model that comes with LooseBox."),
    click.option("--backbone", type=click.Choice(list(BACKBONES)), help="Without --model, use this backbone as it is."),
    click.option("--checkpoint", type=FILE, help="File of the backbone's weights, if not the released ones."),
    format_option,
    click.option("--on-bad-box", type=click.Choice(["stop", "skip"]), help="Default: stop."),
    click.option(
        "--range",
        "grey_range",
        type=(float, float),
        help="Black and white of images that are not 8-bit. The larger number first inverts the contrast.",
    ),
    click.option(
        "--percentiles",
        type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
        help="The same as percentiles of each image, such as 0.5 99.5.",
    ),
    click.option("--channel", type=click.IntRange(min=0), help="Channel to segment, counted from 0."),
    click.option(
        "--pixel-size",
        type=(float, float, float),
        help="Depth, height and width of a pixel, nm. Measurements in nm need them.",
    ),
    click.option("--config", type=FILE, help="YAML with sections `segment` and `refine`, laid over the defaults."),
)


def segmenting(command: Command) -> Command:
    """Give a command the options that say which model segments which boxes of which images."""
    return reduce(lambda decorated, option: option(decorated), reversed(OPTIONS), command)


def chosen_settings(
    config: Path | None,
    grey_range: tuple[float, float] | None,
    percentiles: tuple[float, float] | None,
    form: str | None,
    pixel_size: tuple[float, float, float] | None,
    **options: Any,
) -> tuple[SegmentConfig, RefineConfig]:
    """Return the settings that a file and, over it, the options of a command ask for.

    Args:
        config: File with some keys of the sections `segment` and `refine`.
        grey_range: Black and white.
        percentiles: The same as percentiles.
        form: Format of the boxes.
        pixel_size: ZYX, nm.
        options: Other keys of `segment`; None if the option was not given.

    Raises:
        DataError: A key of the file is unknown or has a wrong value.
        UsageError: Two options contradict each other.
    """
    options |= {"format": form, "grey": _grey(grey_range, percentiles), "pixel_size": pixel_size and list(pixel_size)}
    overlay = {"segment": {key: value for key, value in options.items() if value is not None}}
    written = _read_config(config) if config else {}
    segmentation(written)  # so that a section which is none is not hidden beneath an option
    return segmentation(merged(written, overlay))


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
