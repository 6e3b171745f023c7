"""Write the card of an exported model: Markdown with the header that Hugging Face reads."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.report.provenance import versions

TEMPLATE = "card.md.j2"


def card(name: str, header: ModelHeader, backbone: Backbone, forms: list[str], curve: pd.DataFrame | None) -> str:
    """Return the card as Markdown.

    Args:
        name: name of the model's file.
        header: header of the model's file.
        backbone: backbone of the model.
        forms: forms in which it was exported.
        curve: curve of its training; None: the card has no validation score.
    """
    best = None if curve is None else curve[curve["kept"]].iloc[0].to_dict()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(
        name=name,
        header=header,
        training=header.training,
        backbone=backbone,
        forms=forms,
        kept=best,
        version=versions().get("loosebox", "unknown"),
    )
