"""Stage export: write a trained model in forms that other programs open, with a card."""

from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ModelHeader, check_fits
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import DataError
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.export import IN_TRANSFORMERS, write_onnx, write_segment_anything, write_transformers
from pipeline_lib.report.card import card
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.export import ExportForm


def export(*, weights: str, model: str, export: str, forms: Sequence[ExportForm], curve: str | None = None) -> None:
    """Write a folder with a trained model in the chosen forms and its card.

    Args:
        weights: manifest of the backbone.
        model: model of the stage train.
        export: folder to write. It holds `README.md` (the card) and, by form, `sam.pth`, `encoder.onnx` and
            `decoder.onnx`, or `transformers/`.
        forms: forms to write.
        curve: CSV of the stage train, whose validation score the card shows; None: no score.

    Raises:
        WeightsError: the model is of another backbone.
        DataError: the backbone or the model cannot have one of the forms, or its package is not installed.
    """
    backbone = Backbone.read(weights)
    check_fits(model, backbone)
    if "transformers" in forms and backbone.name not in IN_TRANSFORMERS:
        raise DataError(
            f"export: transformers' SamModel has no encoder of {backbone.name}, only those of "
            f"{', '.join(IN_TRANSFORMERS)}; use another form"
        )
    sam, trained = load_backbone(weights), load_model(model)
    with atomic(export) as folder:
        folder.mkdir(parents=True)
        if "segment_anything" in forms:
            write_segment_anything(folder / "sam.pth", sam, trained)
        if "onnx" in forms:
            write_onnx(folder, sam, trained)
        if "transformers" in forms:
            write_transformers(folder / "transformers", sam, trained)
        scores = read_table(curve) if curve else None
        text = card(Path(model).stem, ModelHeader.read(model), backbone, list(forms), scores)
        (folder / "README.md").write_text(text, encoding="utf-8")
