"""The options that several commands share."""

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


def _check_writable(_: click.Context, __: click.Parameter, folder: Path) -> Path:
    """Return the folder if files can be written in it, or if it can be created.

    Raises:
        BadParameter: they cannot, or it cannot.
    """
    # Not `Path.exists`, which raises an error in a folder without permission.
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if not existing.is_dir():
        raise click.BadParameter(f"{existing} is a file, so {folder} cannot be created; name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise click.BadParameter(f"cannot write in {existing}; name another folder, or change its permissions")
    return folder


def check_out(out: Path, *inputs: str) -> None:
    """Refuse to write outputs into a folder of inputs, because the next run would read them as inputs.

    Args:
        out: Folder to write.
        inputs: Files or folders to read.

    Raises:
        UsageError: `out` is one of the folders, or lies in it.
    """
    for folder in map(Path, inputs):
        if folder.is_dir() and folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise click.UsageError(
                f"--out lies in {folder}, whose files and folders are all read as inputs; name another folder"
            )


out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_check_writable,
    required=True,
    help="Folder for the outputs.",
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
    help="instances: each number is an object. binary: each connected component is an object. "
    "Default: binary if there is only one value besides 0, else instances.",
)
minimum_area_option = click.option(
    "--minimum-area",
    type=click.IntRange(1),
    default=FineTuneConfig().minimum_area,
    show_default=True,
    help="Area of the smallest object, pixels. Smaller ones are ignored.",
)
OPTIONS = (  # of `predict` and `track`
    out_option,
    click.option("--model", type=FILE, help="File of a trained model. Default: the model that comes with LooseBox."),
    click.option(
        "--backbone",
        type=click.Choice(list(BACKBONES)),
        help="Use this backbone without fine-tuning. With --model, it must be the backbone of the model.",
    ),
    click.option("--checkpoint", type=FILE, help="File of the backbone's weights. Default: the released weights."),
    format_option,
    click.option(
        "--on-bad-box",
        type=click.Choice(["stop", "skip"]),
        help="Stop at a bad box, or skip it and write the reason to the table. Default: stop.",
    ),
    click.option(
        "--range",
        "grey_range",
        type=(float, float),
        help="Grey values that become black and white, for images that are not 8-bit. The larger number first inverts "
        "the contrast.",
    ),
    click.option(
        "--percentiles",
        type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
        help="The same, but as percentiles of each image, such as 0.5 99.5.",
    ),
    click.option("--channel", type=click.IntRange(min=0), help="Channel to segment, counted from 0."),
    click.option(
        "--pixel-size",
        type=(float, float, float),
        help="Depth, height and width of a pixel, nm, the same for all images of the call. With it, the table has "
        "measurements in nm. Flat images have no depth: repeat the height.",
    ),
    click.option(
        "--config", type=FILE, help="YAML file with keys of the sections `segment` and `refine` (docs/keys.md)."
    ),
)


def segmenting(command: Command) -> Command:
    """Add to a command the options of `predict` and `track` about outputs, model, boxes and images."""
    return reduce(lambda decorated, option: option(decorated), reversed(OPTIONS), command)


def chosen_settings(
    config: Path | None,
    grey_range: tuple[float, float] | None,
    percentiles: tuple[float, float] | None,
    form: str | None,
    pixel_size: tuple[float, float, float] | None,
    **options: Any,
) -> tuple[SegmentConfig, RefineConfig]:
    """Return the settings of a command. Its options override the configuration file, which overrides the defaults.

    Args:
        config: File with keys of the sections `segment` and `refine`.
        grey_range: Grey values that become black and white.
        percentiles: The same as percentiles of each image.
        form: Format of the boxes.
        pixel_size: ZYX, nm.
        options: Other keys of `segment`; None if the option is not used.

    Raises:
        DataError: A key of the file is unknown or has a wrong value.
        UsageError: Two options contradict each other.
    """
    options |= {"format": form, "grey": _grey(grey_range, percentiles), "pixel_size": pixel_size and list(pixel_size)}
    overlay = {"segment": {key: value for key, value in options.items() if value is not None}}
    file_settings = _read_config(config) if config else {}
    segmentation(file_settings)  # reports errors in the file that an option would hide
    return segmentation(merged(file_settings, overlay))


def _grey(grey_range: tuple[float, float] | None, percentiles: tuple[float, float] | None) -> dict[str, Any] | None:
    if grey_range and percentiles:
        raise click.UsageError("expected --range or --percentiles, found both; leave one out")
    if grey_range:
        return {"range": list(grey_range)}
    return {"percentiles": list(percentiles)} if percentiles else None


def _read_config(file: Path) -> dict[str, Any]:
    check_files([file])
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except ValueError as error:  # such as a date that does not exist
        raise DataError(f"{file}: expected YAML: {error}") from error
