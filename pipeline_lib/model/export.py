"""Write trained models in forms that other programs open: segment_anything's, transformers' and ONNX.

segment_anything needs no new code for a prompt token that is the same for every box. It encodes a point of label -1 as
the vector `not_a_point_embed`, wherever the point lies. The deviation token takes the place of this vector, so a box
with such a point is a box with the token. The decoder does not depend on the order of prompt tokens.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline_lib.errors import DataError
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.upstream import Sam

NOT_A_POINT = "prompt_encoder.not_a_point_embed.weight"
OPSET = 18
INSTALL = 'pip install ".[export]"'
IN_TRANSFORMERS = ("vit_b", "vit_b_em", "vit_l", "vit_h")  # backbones whose encoder SamModel has
TO_TRANSFORMERS = (  # segment_anything's names of tensors, and the names in transformers' SamModel
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"(^|\.)blocks\.", r"\1layers."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"(hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"(hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
)


def stock_tensors(sam: Sam, model: BoxModel) -> dict[str, Tensor]:
    """Return the tensors of backbone and model by segment_anything's names, with the token as `not_a_point_embed`.

    Raises:
        DataError: the model has several tokens or an image adapter, which segment_anything cannot represent.
    """
    if model.adapter is not None:
        raise DataError(
            "export: the model has an image adapter, which segment_anything and transformers cannot represent; "
            "use the form `onnx`"
        )
    tensors = dict(sam.state_dict())
    for part in ("prompt_encoder", "mask_decoder"):
        tensors |= {f"{part}.{key}": value for key, value in getattr(model, part).state_dict().items()}
    if model.token is not None:
        tokens = model.token().detach()
        if len(tokens) != 1:
            raise DataError(
                f"export: the model has {len(tokens)} deviation tokens, and segment_anything can represent only one; "
                "use the form `onnx`"
            )
        tensors[NOT_A_POINT] = tokens
    return {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}


def write_segment_anything(path: Path, sam: Sam, model: BoxModel) -> None:
    """Write a `.pth` file that segment_anything loads into the backbone's network."""
    torch.save(stock_tensors(sam, model), path)


class BoxDecoder(nn.Module):
    """segment_anything's prompt encoder and mask decoder with token and adapter, in a form that ONNX can export."""

    def __init__(self, model: BoxModel) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = model.prompt_encoder, model.mask_decoder
        self.adapter = model.adapter
        width = model.prompt_encoder.embed_dim
        token = torch.zeros(0, width) if model.token is None else model.token().detach()
        self.register_buffer("token", token)

    def forward(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 4g, 4g) and predicted IoU (N).

        Args:
            embedding: (1, 256, g, g) float32.
            boxes: (N, 4) float32, XYXY in pixels of the network's input.
        """
        count = boxes.shape[0]
        prompts = torch.cat(
            [self.prompt_encoder._embed_boxes(boxes), self.get_buffer("token").expand(count, -1, -1)], dim=1
        )
        dense = self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        logits, predicted_iou = self.mask_decoder.predict_masks(
            image_embeddings=embedding if self.adapter is None else self.adapter(embedding),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=dense.expand(count, -1, *self.prompt_encoder.image_embedding_size),
        )
        return logits[:, 0], predicted_iou[:, 0]


def write_onnx(folder: Path, sam: Sam, model: BoxModel) -> None:
    """Write `encoder.onnx` (image to embedding) and `decoder.onnx` (embedding and any number of boxes to masks).

    Raises:
        DataError: the package onnx or onnxscript is not installed.
    """
    _check_installed("onnx")
    _check_installed("onnxscript")
    side, grid = sam.image_encoder.img_size, sam.prompt_encoder.image_embedding_size
    image, embedding = torch.zeros(1, 3, side, side), torch.zeros(1, sam.prompt_encoder.embed_dim, *grid)
    boxes = torch.tensor([[0.0, 0.0, side / 2, side / 2], [0.0, 0.0, side / 4, side / 3]])
    _to_onnx(folder / "encoder.onnx", sam.image_encoder, {"image": image}, ["embedding"], {})
    inputs = {"embedding": embedding, "boxes": boxes}
    many = {"boxes": {0: torch.export.Dim("boxes", min=1)}}
    _to_onnx(folder / "decoder.onnx", BoxDecoder(model), inputs, ["logits", "predicted_iou"], many)


def _to_onnx(
    path: Path, network: nn.Module, inputs: dict[str, Tensor], outputs: list[str], dynamic: dict[str, Any]
) -> None:
    network = network.cpu().eval().requires_grad_(False)
    shapes = tuple(dynamic.get(name) for name in inputs)
    with torch.no_grad():
        program = torch.export.export(network, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
        exported = torch.onnx.export(
            program,
            (),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert exported is not None  # it is None only if `export` gets a path
    exported.save(str(path))


def write_transformers(folder: Path, sam: Sam, model: BoxModel) -> None:
    """Write a folder for transformers' `SamModel.from_pretrained` and `SamProcessor.from_pretrained`.

    Raises:
        DataError: transformers is not installed.
    """
    _check_installed("transformers")
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor, SamVisionConfig

    encoder = sam.image_encoder
    vision = SamVisionConfig(
        hidden_size=encoder.pos_embed.shape[-1],
        num_hidden_layers=len(encoder.blocks),
        num_attention_heads=encoder.blocks[0].attn.num_heads,
        global_attn_indexes=[number for number, block in enumerate(encoder.blocks) if not block.window_size],
    )
    exported = SamModel(SamConfig(vision_config=vision.to_dict())).eval()
    exported.load_state_dict(transformers_tensors(stock_tensors(sam, model)))
    exported.save_pretrained(folder)
    SamProcessor(SamImageProcessor()).save_pretrained(folder)


def transformers_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename segment_anything's tensors to the names of transformers' SamModel."""
    renamed = {_renamed(name): tensor for name, tensor in tensors.items()}
    shared = "shared_image_embedding.positional_embedding"
    return renamed | {"prompt_encoder.shared_embedding.positional_embedding": renamed[shared]}


def _renamed(name: str) -> str:
    for pattern, replacement in TO_TRANSFORMERS:
        name = re.sub(pattern, replacement, name)
    return name


def _check_installed(package: str) -> None:
    if find_spec(package) is None:
        raise DataError(f"export: the package {package} is not installed; install it with `{INSTALL}`")
