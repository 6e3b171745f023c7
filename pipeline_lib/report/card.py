"""The card of an exported model: Markdown with the head that Hugging Face reads."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.report.provenance import versions

TEMPLATE = "card.md.j2"


def card(name: str, header: ModelHeader, backbone: Backbone, forms: list[str], curve: pd.DataFrame | None) -> str:
    """The card as Markdown.

    Args:
        name: of the model's file.
        header: what the model's file says of itself.
        backbone: that it was trained on.
        forms: in which it was exported.
        curve: of its training; None leaves out how it was scored.
    """
    kept = None if curve is None else curve[curve["kept"]].iloc[0].to_dict()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(
        name=name,
        header=header,
        training=header.training,
        backbone=backbone,
        forms=forms,
        kept=kept,
        version=versions().get("loosebox", "unknown"),
    )
