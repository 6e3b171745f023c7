"""Stage weights: find or download the checkpoint of a backbone, and check it before any job uses it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.model.backbones import RELEASED, build, find_checkpoint, on_meta_device
from pipeline_lib.model.checkpoints import check_finite, check_tensors, read_tensors
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.backbone import BackboneChoice


def weights(
    *,
    manifest: str,
    backbone: BackboneChoice,
    folder: str,
    released: Mapping[str, tuple[str, str]] = RELEASED,
) -> None:
    """Find or download a backbone's checkpoint, check it, and record it.

    Args:
        manifest: JSON file to write, with the record (`Backbone`).
        backbone: name of the network, and the file of its weights.
        folder: folder for downloads.
        released: URL and checksum of the weights that are downloaded. Those of other backbones come with a package.

    Raises:
        WeightsError: the checkpoint is not of this backbone, is damaged, or its package is not installed.
        DownloadError: the checkpoint cannot be fetched.
    """
    name = backbone.name
    with on_meta_device():
        sam = build(name)
    checkpoint = find_checkpoint(name, backbone.checkpoint, Path(folder), released).resolve()
    tensors = read_tensors(checkpoint)
    check_tensors(sam.state_dict(), tensors, f"{checkpoint} (for {name})")
    check_finite(tensors, checkpoint)
    normalisation = getattr(sam, "normalisation", "Sam.preprocess")
    record = Backbone.of(name, checkpoint, sam.image_encoder.img_size, normalisation)
    with atomic(manifest) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2) + "\n")
