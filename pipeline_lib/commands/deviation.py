"""The command `loosebox deviation`: measure how boxes deviate from labelled objects."""

from pathlib import Path

import click

from pipeline_lib.commands.options import (
    check_out,
    format_option,
    labels_are_option,
    minimum_area_option,
    out_option,
)
from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.exact_boxes import exact_boxes
from pipeline_lib.data.labelled_images import LabelsAre
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.deviations import deviations, figures
from pipeline_lib.report.deviations import advice, counts, write_deviations
from pipeline_lib.settings.segment import OnBadBox


@click.command("deviation")
@click.argument("boxes", nargs=-1, required=True)
@click.argument("labels")
@out_option
@format_option
@click.option(
    "--on-bad-box",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Stop at a bad box, or leave it out.",
)
@click.option("--minimum-score", type=float, help="Leave out boxes with a lower score. Default: use all boxes.")
@labels_are_option
@minimum_area_option
def deviation_command(
    boxes: tuple[str, ...],
    labels: str,
    out: Path,
    form: str | None,
    on_bad_box: OnBadBox,
    minimum_score: float | None,
    labels_are: LabelsAre | None,
    minimum_area: int,
) -> None:
    """Measure how BOXES deviate from the objects in LABELS.

    BOXES are files of boxes, or folders of them, in the formats of `predict`. LABELS is a folder of label images with
    the names of the boxes' images, or one stack of label images. Each box is matched to at most one object.

    The command writes deviations.csv with a row for each matched box, slices.csv with the numbers of missed objects and
    of boxes without an object in each slice, and deviations.html, which shows both and says which model suits such
    boxes.
    """
    check_out(out, labels, *boxes)
    try:
        exact = exact_boxes(labels, labels_are, minimum_area)
        records = read_box_files([Path(path) for path in boxes], Images(exact.shapes), form)
        checked = checked_boxes(records, exact.shapes, on_bad_box)
        good = checked[checked["reason"] == ""]
        if minimum_score is not None:
            if good["score"].isna().any():
                raise DataError(
                    f"{', '.join(boxes)}: --minimum-score needs a score of each box, but "
                    f"{int(good['score'].isna().sum())} boxes have none; leave the option out"
                )
            good = good[good["score"] >= minimum_score]
        matched = deviations(good, exact.objects)
        if matched.pairs.empty:
            raise DataError(
                f"{', '.join(boxes)}: none of {len(good)} boxes overlaps one of {len(exact.objects)} objects; check "
                f"that {labels} has the labels of the same images"
            )
        settings = {"boxes": ", ".join(boxes), "labels": labels, "smallest object": f"{minimum_area} pixels"}
        settings |= {"lowest score": "none" if minimum_score is None else f"{minimum_score:g}"}
        write_deviations(out, out.resolve().name, matched, settings)
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(counts(matched))
    for figure in figures(matched.pairs):
        click.echo(f"{figure.name}: {figure.value.value:.3f}")
    click.echo(advice(matched))
    click.echo(f"{out}/deviations.html, deviations.csv, slices.csv")
