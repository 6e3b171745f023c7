"""Image encoders that OpenVINO runs, which on a CPU takes less time than torch."""

import logging
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from pipeline_lib.model.tiny_vit import TinyViT
from pipeline_lib.model.upstream import ImageEncoderViT
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.code_digest import code_digest
from pipeline_lib.runtime.device import Precision, multiplies_bfloat16
from pipeline_lib.runtime.hashing import key_of

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}  # OpenVINO's names of precisions
FILES = ("encoder.xml", "encoder.bin")  # graph and weights, in OpenVINO's form
log = logging.getLogger(__name__)


class OpenVinoEncoder(nn.Module):
    """An image encoder that takes the place of the one in torch.

    Args:
        network: of `convert` or `read_converted`.
        image_size: side of the input, pixels; read by `Sam.preprocess`.
        precision: of the matrix products and convolutions.
    """

    def __init__(self, network: Any, image_size: int, precision: Precision) -> None:
        super().__init__()
        self.img_size = image_size
        properties = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),  # as many as a job's other work has
            "ENABLE_CPU_PINNING": False,  # two processes would be bound to the same core
        }
        self.request = _openvino().Core().compile_model(network, "CPU", properties).create_infer_request()

    def forward(self, image: Tensor) -> Tensor:
        """Return the embedding (1, 256, h, w) of a normalised image (1, 3, S, S), both float32 on the CPU."""
        embedding = self.request.infer({0: image.numpy()})[0]
        return torch.from_numpy(embedding.copy())  # the next call writes to the same memory


def suits(encoder: nn.Module, precision: Precision) -> bool:
    """Say whether OpenVINO is to run an encoder: a large one, on a CPU, and OpenVINO is installed.

    It does not emulate bfloat16, but takes float32 in its place.
    """
    if find_spec("openvino") is None or torch.cuda.is_available():
        return False
    return isinstance(encoder, ImageEncoderViT | TinyViT) and (precision == "float32" or multiplies_bfloat16())


def convert(encoder: nn.Module) -> Any:
    """Return the network of an encoder in torch, in OpenVINO's form, for one image at a time."""
    log.info("the encoder is converted for OpenVINO")
    side = int(encoder.img_size)  # type: ignore[arg-type]  # an attribute that torch does not know
    with torch.no_grad():
        program = torch.export.export(encoder, (torch.zeros(1, 3, side, side),), strict=False)
        return _openvino().convert_model(program)


def read_converted(path: Path) -> Any | None:
    """Return the network that `write_converted` wrote; None if there is none, or one that is damaged or outdated."""
    try:
        with ZipFile(path) as file:
            up_to_date = file.comment.decode() == _key()
            return _openvino().Core().read_model(*map(file.read, FILES)) if up_to_date else None
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file comes to; a zip file has checksums
        log.warning("%s: damaged, so it is replaced: %s", path, error)
        return None


def write_converted(path: Path, network: Any) -> None:
    """Write a network as one file, which appears as a whole, or warn that this is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as folder:  # as large as the weights
            _openvino().save_model(network, Path(folder, FILES[0]), compress_to_fp16=False)
            with atomic(path) as partial, ZipFile(partial, "w") as file:
                file.comment = _key().encode()
                for name in FILES:
                    file.write(Path(folder, name), name)
    except OSError as error:
        log.warning("%s: cannot be written, so that each job converts the encoder again: %s", path, error)


def _key() -> str:
    """Return a name for what decides a converted network besides the weights."""
    return key_of(version("openvino"), code_digest(TinyViT.__module__))


def _openvino() -> Any:
    """Import OpenVINO without the package by which it would report to its makers that it is used."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    import openvino

    return openvino
