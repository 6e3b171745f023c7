"""Stage weights: the checkpoint of a backbone, fetched if need be and found to fit before any job relies on it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline_lib.atomic import atomic
from pipeline_lib.download import fetch
from pipeline_lib.sam import Backbone, build, check_tensors, fingerprint, read_tensors, shapes_only

SHIPPED = {"micro": Path(__file__).with_name("micro.safetensors")}
META = "https://dl.fbaipublicfiles.com/segment_anything"
RELEASED = {  # url, checksum; each is a pickle, which `read_tensors` does not execute
    "vit_b": (f"{META}/sam_vit_b_01ec64.pth", "xxh128:6923c33df3637b6a922d7682bfc9a86b"),
    "vit_l": (f"{META}/sam_vit_l_0b3195.pth", "xxh128:a82beb3c660661e3dd38d999cc860e9a"),
    "vit_h": (f"{META}/sam_vit_h_4b8939.pth", "xxh128:97698fac30bd929c2e6d8d8cc15933c2"),
}


def weights(
    *,
    manifest: str,
    backbone: Mapping[str, Any],
    folder: str,
    released: Mapping[str, tuple[str, str]] = RELEASED,
) -> None:
    """Find, verify and record a backbone's checkpoint.

    Args:
        manifest: where to write the `Backbone` as JSON.
        backbone: `name`, and `checkpoint`: a path, or None for the shipped or released weights.
        folder: where downloads go.
        released: URL and checksum of the weights that are downloaded; those of other backbones come with the package.

    Raises:
        WeightsError: the checkpoint is not of this backbone.
        DownloadError: it could not be fetched.
    """
    name = backbone["name"]
    with shapes_only():
        sam = build(name)
    checkpoint = _checkpoint(name, backbone["checkpoint"], Path(folder), released).resolve()
    check_tensors(sam.state_dict(), read_tensors(checkpoint), f"{checkpoint} (for {name})")
    record = Backbone(name, str(checkpoint), fingerprint(checkpoint), sam.image_encoder.img_size)
    with atomic(manifest) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2) + "\n")


def _checkpoint(name: str, given: str | None, folder: Path, released: Mapping[str, tuple[str, str]]) -> Path:
    if given is not None:
        return Path(given)
    if name not in released:
        return SHIPPED[name]
    url, checksum = released[name]
    path = folder / Path(urlsplit(url).path).name
    fetch(url, path, checksum)
    return path
