"""Read the header of a trained model: its backbone, its shape and its training. This module does not need torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.errors import WeightsError, intact

SHIPPED = "shipped"  # stands for the file of the model that comes with LooseBox
SHIPPED_FILE = Path(__file__).parents[1] / "model" / "shipped.safetensors"
ENTRY = "loosebox"  # key of the header in the metadata of the safetensors file


def model_path(name: str | Path) -> Path:
    """Return the file of a model: the path itself, or for `shipped` the model that comes with LooseBox."""
    return SHIPPED_FILE if str(name) == SHIPPED else Path(name)


@dataclass(frozen=True)
class ModelHeader:
    """The header that the stage `train` writes into the file of a model."""

    backbone: str  # name of the backbone
    model_config: dict[str, Any]  # fields of `ModelConfig`
    training: dict[str, Any]  # everything that decided the training, as JSON
    about: str = ""  # a line that tells people what it was trained on; models of the stage `train` have none

    @classmethod
    def read(cls, path: str | Path) -> "ModelHeader":
        """Read the header of the model at `path`.

        Raises:
            WeightsError: The file is not a model of the stage `train`.
        """
        if Path(path).suffix != ".safetensors":
            raise WeightsError(
                f"{path}: expected a model that LooseBox trained, with the suffix .safetensors. For weights of a "
                "backbone, use --backbone NAME --checkpoint FILE"
            )
        # "np", because "pt" would import torch
        with intact(path), safe_open(path, "np") as file:
            metadata = file.metadata() or {}
        if ENTRY not in metadata:
            raise WeightsError(
                f"{path}: expected a model of the stage train, but the file does not record its backbone and config. "
                "Use a file that `loosebox train` or the workflow wrote"
            )
        header = json.loads(metadata[ENTRY])
        training = _with_current_keys(header["training"])
        return cls(header["backbone"], header["model_config"], training, header.get("about", ""))


def _with_current_keys(training: dict[str, Any]) -> dict[str, Any]:
    """Return what decided a training. The keys of files of older versions are replaced by the current ones."""
    if "model_config" not in training:
        return training
    shape, settings = training["model_config"], training.get("settings", {})
    others = {key: value for key, value in training.items() if key not in ("model_config", "settings", "levels")}
    train = {key: value for key, value in settings.items() if key not in ("largest_component", "window")}
    extent = settings.get("mask_extent", settings.get("window"))
    return others | {
        "model": {"adapter": None} | {key: value for key, value in shape.items() if key != "mix"},
        "mix": {"kinds": None} | shape.get("mix", {}),
        "train": train | {"mask_extent": extent, "validation_levels": training.get("levels", [])},
        "largest_component": settings.get("largest_component", False),
    }


def described(model: str | Path | None, backbone: Backbone) -> str:
    """Say in one line which model is used, and what it was trained on."""
    if model is None:
        return f"the backbone {backbone.name} as it was released, without training for loose boxes"
    header = ModelHeader.read(model)
    if header.about:
        return header.about
    training = header.training
    sets = list(training.get("trained_on") or [training.get("dataset", "unknown data")])
    return f"{model}, trained on {', '.join(sets)} over the backbone {header.backbone}"


def check_fits(model: str | Path, backbone: Backbone) -> None:
    """Check that a model was trained on a backbone.

    Raises:
        WeightsError: The model belongs to another backbone, or to another checkpoint of the same backbone.
    """
    header = ModelHeader.read(model)
    if header.backbone != backbone.name:
        raise WeightsError(
            f"{model}: trained on the backbone {header.backbone}, but {backbone.name} is set. Set backbone.name to "
            f"{header.backbone}, or use another model"
        )
    checkpoint = header.training.get("checkpoint", backbone.digest)  # version 0.2 did not record it
    if checkpoint != backbone.digest:
        raise WeightsError(
            f"{model}: trained on a checkpoint with the digest {checkpoint}, but {backbone.checkpoint} is set. Use "
            "that checkpoint, or another model"
        )


def trained_side(model: str | Path | None, backbone: Backbone) -> int:
    """Return the side of the tiles that a model was trained on, pixels. Without a model, it is that of the input."""
    tile = ModelHeader.read(model).training.get("tile") if model else None
    return max(tile) if tile else backbone.image_size
