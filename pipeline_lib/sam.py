"""All that is learned: SAM's backbones, its prompt encoder and mask decoder, and the deviation token.

A backbone is any `segment_anything.modeling.Sam`; nothing after this module knows which. The package is
segment-anything-py, the later state of Meta's repository: the registry's segment-anything 1.0 has the same networks,
but its `ResizeLongestSide.apply_image_torch` reads height and width from the wrong axes.
"""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pipeline_lib.atomic import atomic
from pipeline_lib.errors import DataError, WeightsError
from pipeline_lib.lean import ImageSide, decode, image_side, positions
from pipeline_lib.micro import build_micro
from pipeline_lib.stock import MaskDecoder, PromptEncoder, Sam, sam_model_registry

BACKBONES: dict[str, Callable[[], Sam]] = {"micro": build_micro} | {
    name: sam_model_registry[name] for name in ("vit_b", "vit_l", "vit_h")
}
NAMED_KEYS = 3  # of each kind of misfit, in an error


@dataclass(frozen=True)
class Backbone:
    """A checkpoint that was found to fit its network: what the stage `weights` hands on."""

    name: str
    checkpoint: str  # absolute path
    fingerprint: str  # of the file's bytes
    image_size: int  # pixels along the longest side of the network's input

    @classmethod
    def read(cls, path: str | Path) -> "Backbone":
        """The record in the manifest at `path`."""
        return cls(**json.loads(Path(path).read_text()))


def build(name: str) -> Sam:
    """The backbone's network with random weights, or within `shapes_only` with none.

    Raises:
        DataError: there is no such backbone.
    """
    if name not in BACKBONES:
        raise DataError(f"backbone {name!r}: expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]().eval()


class _WithoutDraws(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.randn:
            return torch.zeros(*args, device="cpu")
        if function is nn.init.normal_:
            return kwargs["tensor"]
        return function(*args, **kwargs or {})


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built in it takes no time and memory for weights, which `fill` then gives it.

    That is the meta device but for normal draws, which give zeros or are left out: on that device they, and arithmetic
    with them, are written in Python and import torch's compiler, which takes nearly as long as the import of torch.
    """
    with torch.device("meta"), _WithoutDraws():
        yield


def load_backbone(manifest: str | Path) -> Sam:
    """The backbone of the manifest with its weights in float32, on the CPU.

    Raises:
        WeightsError: the checkpoint is no longer the file that the manifest was written for.
    """
    sam, backbone = shapes_of(manifest)
    fill(sam, read_tensors(backbone.checkpoint), backbone.checkpoint)
    return sam


def shapes_of(manifest: str | Path) -> tuple[Sam, Backbone]:
    """The manifest's backbone without its weights, and its record.

    Raises:
        WeightsError: the checkpoint is no longer the file that the manifest was written for.
    """
    backbone = Backbone.read(manifest)
    if fingerprint(backbone.checkpoint) != backbone.fingerprint:
        raise WeightsError(f"{backbone.checkpoint}: changed since {manifest} was written for it; run weights again")
    with shapes_only():
        return build(backbone.name), backbone


def fingerprint(path: str | Path) -> str:
    """blake2b-128 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle of nothing but a dictionary of tensors, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged, or a pickle of anything else, which is not executed.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        mapped = is_zipfile(path)  # as PyTorch has written since 1.6: tensors are then read when they are copied
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, EOFError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: expected tensors by name (safetensors or a PyTorch pickle): {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: expected a dictionary of tensors by name and nothing else")
    return tensors


def check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare names and shapes.

    Raises:
        WeightsError: naming the file and the first keys that are missing, unexpected or of another shape.
    """
    misshapen = (
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    )
    misfits = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "misshapen": list(misshapen),
    }
    found = [f"{len(keys)} {kind} ({', '.join(keys[:NAMED_KEYS])})" for kind, keys in misfits.items() if keys]
    if found:
        raise WeightsError(f"{path}: does not fit its network: {'; '.join(found)}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Make the tensors of the file at `path` the weights of a module built within `shapes_only`, in float32.

    Raises:
        WeightsError: they do not fit.
    """
    check_tensors(module.state_dict(), tensors, path)
    # copied, because views into a file are not aligned, and sums over them round otherwise than in the saved model
    module.load_state_dict({key: value.to(torch.float32, copy=True) for key, value in tensors.items()}, assign=True)


@dataclass(frozen=True)
class Token:
    """The shape of a deviation token."""

    width: int  # of a vector, before the linear layer
    count: int  # of vectors; one in the paper


@dataclass(frozen=True)
class Variant:
    """What of a BoxModel is trained, and its deviation token (None: it has none)."""

    trains: tuple[str, ...]  # of BoxModel.parts()
    token: Token | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Variant":
        """The variant that a config or the head of a saved model describes."""
        return cls(tuple(record["trains"]), Token(**record["token"]) if record["token"] else None)


class DeviationToken(nn.Module):
    """Learned vectors behind a linear layer: more prompt tokens, the same for every box."""

    def __init__(self, shape: Token, prompt_width: int) -> None:
        super().__init__()
        # small: the decoder was trained without them
        self.vectors = nn.Parameter(0.02 * torch.randn(shape.count, shape.width))
        self.project = nn.Linear(shape.width, prompt_width)

    def forward(self) -> Tensor:
        """The tokens, (count, prompt width)."""
        tokens: Tensor = self.project(self.vectors)
        return tokens


class BoxModel(nn.Module):
    """Embedding and boxes to masks: SAM's prompt encoder and mask decoder, with or without the deviation token.

    The mask decoder puts its own tokens first and reads only those, so it takes any number of prompt tokens. Weights
    and names are stock's; the forward is that of `lean.py`.
    """

    def __init__(self, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder, token: DeviationToken | None) -> None:
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.token = token

    def image_sides(self, embeddings: Iterable[Tensor]) -> list[ImageSide]:
        """Once for many boxes: what of each image's embedding (1, 256, h, w) float32 all of its boxes share."""
        shared = positions(self.prompt_encoder, self.mask_decoder)
        return [image_side(self.prompt_encoder, self.mask_decoder, shared, embedding) for embedding in embeddings]

    def forward(self, images: Sequence[ImageSide], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """One mask for each box.

        Args:
            images: of one call of `image_sides`, one for each box; boxes of an image are neighbours.
            boxes: (N, 4) float32, at least one, XYXY in pixels of the network's input (`Frame.to_network`).

        Returns:
            Low-resolution logits (N, 4h, 4w) and the mask's predicted IoU (N).
        """
        with torch.autocast(boxes.device.type, enabled=False):  # bfloat16 would round a coordinate to half a pixel
            prompts, _ = self.prompt_encoder(points=None, boxes=boxes, masks=None)  # N 2 256
        if self.token is not None:
            prompts = torch.cat([prompts, self.token().expand(len(boxes), -1, -1)], dim=1)  # N 2+count 256
        return decode(self.mask_decoder, images, prompts)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """What a variant can train; the corner embeddings are those that SAM adds to a box's two corners."""
        corners = self.prompt_encoder.point_embeddings[2:4]
        return {
            "mask_decoder": list(self.mask_decoder.parameters()),
            "corner_embeddings": list(corners.parameters()),
            "deviation_token": [] if self.token is None else list(self.token.parameters()),
        }

    def set_trainable(self, variant: Variant) -> list[nn.Parameter]:
        """Freeze all but the variant's parts, and return the parameters of these."""
        self.requires_grad_(False)
        parts = self.parts()
        trained = [parameter for part in variant.trains for parameter in parts[part]]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained


def box_model(sam: Sam, variant: Variant) -> BoxModel:
    """The backbone's own prompt encoder and mask decoder, not copies, with a new token if the variant has one."""
    token = None if variant.token is None else DeviationToken(variant.token, sam.prompt_encoder.embed_dim)
    return BoxModel(sam.prompt_encoder, sam.mask_decoder, token)


def load_untrained(manifest: str | Path, variant: Variant) -> BoxModel:
    """A model of the manifest's backbone as its training begins, on the CPU; the encoder takes no memory.

    Raises:
        WeightsError: the checkpoint is no longer the file that the manifest was written for.
    """
    sam, backbone = shapes_of(manifest)
    tensors = read_tensors(backbone.checkpoint)
    for name in ("prompt_encoder", "mask_decoder"):
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        fill(getattr(sam, name), own, backbone.checkpoint)
    return box_model(sam, variant)


def save_model(model: BoxModel, path: str | Path, backbone: str, variant: Variant, training: Mapping[str, Any]) -> None:
    """Write the model as safetensors that say which backbone and variant they are of, and what decided its training."""
    tensors = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    # one entry, because safetensors writes several in an order that differs from run to run
    metadata = {"loosebox": json.dumps({"backbone": backbone, "variant": asdict(variant), "training": training})}
    with atomic(path) as partial:
        save_file(tensors, partial, metadata)


def read_record(path: str | Path) -> Any:
    """What `save_model` wrote about a model: backbone, variant and training.

    Raises:
        WeightsError: the file is not such a model.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "loosebox" not in metadata:
        raise WeightsError(f"{path}: expected a model of the stage train, which records its backbone and variant")
    return json.loads(metadata["loosebox"])


def load_model(path: str | Path) -> BoxModel:
    """The model that `save_model` wrote, in evaluation mode on the CPU; the image encoder is not needed and not loaded.

    Raises:
        WeightsError: the file is not such a model.
    """
    tensors = read_tensors(path)
    made = read_record(path)
    with shapes_only():
        model = box_model(build(made["backbone"]), Variant.of(made["variant"]))
    fill(model, tensors, path)
    return model.eval()


@dataclass(frozen=True)
class Frame:
    """Where a tile lies in the network's square input: scaled to its longest side, zero-padded below and to the right.

    A tile at the edge of a slice can be smaller than the full one; it is scaled like a full one and padded the more.
    """

    tile: tuple[int, int]  # h, w of a full tile, pixels
    image_size: int  # side of the network's input, pixels

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of a full tile within the network's input, in pixels, rounded as SAM rounds."""
        scale = self.image_size / max(self.tile)
        h, w = (int(side * scale + 0.5) for side in self.tile)  # `ResizeLongestSide.get_preprocess_shape`
        return h, w

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of the tile, y and x: alike but for the rounding."""
        (h, w), (tile_h, tile_w) = self.input_shape, self.tile
        return h / tile_h, w / tile_w

    def to_network(self, boxes: NDArray[np.number] | Tensor) -> Tensor:
        """Boxes (N, 4) XYXY of the tile, in pixels of the network's input, float32."""
        y, x = self.scale
        return (torch.as_tensor(boxes, dtype=torch.float64) * torch.tensor([x, y, x, y], dtype=torch.float64)).float()

    def mask(self, logits: Tensor) -> Tensor:
        """Binary masks (N, h, w) of a full tile from low-resolution logits (N, 4h, 4w of the embedding).

        The steps are those of `Sam.postprocess_masks`: enlarge to the network's input, cut off its padding, resize to
        the tile. The first, which enlarges most, is done where the masks live; what lies beyond is no object anyway.
        Where the last would halve what the first enlarged by four, both together enlarge by two, but for rounding.
        """
        factor = self.image_size // logits.shape[-1]
        halved = factor == 4 and self.input_shape == (2 * self.tile[0], 2 * self.tile[1])
        (h, w), factor = (self.tile, 2) if halved else (self.input_shape, factor)
        rows, columns = _living(logits)
        living = _resize(
            logits[:, rows, columns], (factor * (rows.stop - rows.start), factor * (columns.stop - columns.start))
        )
        ends = (columns.start, logits.shape[2] - columns.stop, rows.start, logits.shape[1] - rows.stop)
        margins = [factor * end for end in ends]  # of whole cells, so that no sample moves
        if (h, w) == self.tile:
            return F.pad(living > 0, margins)[:, :h, :w].contiguous()  # or the padding would be kept with each mask
        return _resize(F.pad(living, margins, value=-1.0)[:, :h, :w], self.tile) > 0


def _resize(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[:, None], shape, mode="bilinear", align_corners=False)[:, 0]


def _living(logits: Tensor) -> tuple[slice, slice]:
    """The rows and columns where any of some masks is, and two more on either side, that interpolation looks at.

    All of them, where there is no mask, and on a GPU, which would have to be waited for.
    """
    side = logits.shape[1]
    if logits.is_cuda:
        return slice(0, side), slice(0, side)
    present = (logits > 0).any(dim=0)
    lines = torch.stack([present.any(dim=1), present.any(dim=0)]).byte()  # 2 g
    ends = torch.stack([lines.argmax(dim=1), lines.flip(1).argmax(dim=1)]).tolist()
    rows, columns = (slice(max(0, first - 2), min(side, side - last + 2)) for first, last in zip(*ends, strict=True))
    return rows, columns
