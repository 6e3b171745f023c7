"""Other programs' ways from boxes to masks and from an image to its embedding, and their steps of training.

All have the same weights and the same input.

A way takes boxes (N, 4) XYXY in pixels of the image and returns masks (N, h, w) at the image's own resolution. The
embedding is that of a `SamPredictor` on which an image is set.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from pipeline_lib.model.export import transformers_tensors

Boxes = NDArray[np.float32]
Masks = NDArray[np.bool_]
Way = Callable[[Boxes], Masks]


def predict_loop(predictor: SamPredictor) -> Way:
    """`SamPredictor.predict`, box by box."""

    def run(boxes: Boxes) -> Masks:
        return np.concatenate([predictor.predict(box=box, multimask_output=False)[0] for box in boxes])

    return run


def predict_torch(predictor: SamPredictor, chunk: int) -> Way:
    """`SamPredictor.predict_torch` in chunks."""

    def run(boxes: Boxes) -> Masks:
        scaled = predictor.transform.apply_boxes(boxes, predictor.original_size)
        parts = torch.from_numpy(scaled).float().to(predictor.device).split(chunk)
        masks = [predictor.predict_torch(None, None, boxes=part, multimask_output=False)[0] for part in parts]
        return torch.cat(masks)[:, 0].cpu().numpy()

    return run


def micro_sam(predictor: SamPredictor, chunk: int) -> Way:
    """`micro_sam.inference.batched_inference`; its resizing is fixed at 1,024 pixels."""
    from micro_sam.inference import batched_inference

    def run(boxes: Boxes) -> Masks:
        found = batched_inference(predictor, None, chunk, boxes=boxes, return_instance_segmentation=False)
        return np.stack([np.asarray(each["segmentation"]) for each in found])

    return run


def ultralytics(predictor: SamPredictor, chunk: int) -> Way:
    """`ultralytics`' predictor of SAM, which enlarges its masks in one step."""
    own = ultralytics_predictor(predictor.model)
    own.set_image(np.zeros((*predictor.original_size, 3), np.uint8))
    own.features = predictor.features
    return partial(ultralytics_masks, own, chunk)


def ultralytics_predictor(sam: Sam) -> Any:
    """`ultralytics`' own predictor with the weights of a `vit_b`."""
    from ultralytics.models.sam import Predictor
    from ultralytics.models.sam.build import build_sam_vit_b

    network = build_sam_vit_b()
    network.load_state_dict(sam.state_dict())
    own = Predictor(overrides={"imgsz": sam.image_encoder.img_size, "save": False, "verbose": False})
    own.setup_model(network.to(sam.device), verbose=False)
    own.args.conf = -math.inf  # keep every mask, as all others do
    return own


def ultralytics_masks(own: Any, chunk: int, boxes: Boxes) -> Masks:
    """Masks of the image that is set."""
    found = [own(bboxes=boxes[at : at + chunk])[0] for at in range(0, len(boxes), chunk)]
    return np.concatenate([each.masks.data.cpu().numpy() for each in found])


def transformers(predictor: SamPredictor, chunk: int) -> Way:
    """`transformers.SamModel` with the predictor's weights, through its own pre- and post-processing."""
    from transformers import SamConfig, SamImageProcessor, SamModel

    model = SamModel(SamConfig()).eval().to(predictor.device)
    stock = predictor.model.state_dict()
    own = {name: tensor for name, tensor in stock.items() if name.startswith(("prompt_encoder.", "mask_decoder."))}
    tensors = transformers_tensors(own)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    astray = [name for name in missing if not name.startswith("vision_encoder.")] + unexpected
    if astray:
        raise ValueError(f"transformers' SamModel has other tensors than expected: {astray[:5]}")
    processor = SamImageProcessor()

    @torch.inference_mode()
    def run(boxes: Boxes) -> Masks:
        scaled = predictor.transform.apply_boxes(boxes, predictor.original_size)
        masks = []
        for part in torch.from_numpy(scaled).float().to(predictor.device)[None].split(chunk, dim=1):
            output = model(image_embeddings=predictor.features, input_boxes=part, multimask_output=False)
            (resized,) = processor.post_process_masks(
                output.pred_masks.cpu(), [predictor.original_size], [predictor.input_size]
            )
            masks.append(resized[:, 0])
        return torch.cat(masks).numpy()

    return run


def transformers_encoder(sam: Sam) -> Callable[[Tensor], Tensor]:
    """`transformers.SamModel`'s vision encoder with the weights of a `vit_b`; images (B, 3, 1024, 1024) normalised."""
    from transformers import SamConfig, SamModel

    encoder = SamModel(SamConfig()).eval().to(sam.device).vision_encoder
    own = transformers_tensors(sam.state_dict())
    prefix = "vision_encoder."
    encoder.load_state_dict({key.removeprefix(prefix): own[key] for key in own if key.startswith(prefix)})

    def run(images: Tensor) -> Tensor:
        embedding: Tensor = encoder(images).last_hidden_state
        return embedding

    return run


def micro_sam_step(
    sam: Sam,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    objects: int,
    sub_iterations: int,
    folder: Path,
) -> Callable[[], object]:
    """An iteration of micro_sam's `SamTrainer`, put together as `train_sam(freeze=["image_encoder"])` does it.

    Of the two kinds of its iterations it is that which starts from a box for each object. Every sub-iteration predicts
    all objects, and the later ones are prompted with points where the mask was wrong; one optimiser step ends them.
    Optimiser and mixed precision are its defaults, but there are no logger and no validation.
    """
    from micro_sam.training.sam_trainer import SamTrainer
    from micro_sam.training.trainable_sam import TrainableSAM
    from micro_sam.training.util import ConvertToSamInputs

    sam.requires_grad_(True).image_encoder.requires_grad_(False)
    model = TrainableSAM(sam)
    grey = torch.from_numpy(image).float().expand(1, 3, -1, -1)
    data = DataLoader(TensorDataset(grey, torch.from_numpy(labels.astype(np.int64))[None, None]))
    trainer = SamTrainer(
        name="benchmark",
        save_root=str(folder),
        train_loader=data,
        val_loader=data,
        model=model,
        optimizer=AdamW(model.parameters(), lr=1e-5),
        device=sam.device,
        logger=None,
        convert_inputs=ConvertToSamInputs(transform=model.transform, box_distortion_factor=0.025),
        n_objects_per_batch=objects,
        n_sub_iteration=sub_iterations,
        compile_model=False,
    )
    trainer.logger, trainer.max_iteration = None, np.inf  # what `fit` would set

    def step() -> None:
        trainer._iteration = 1  # odd ones start from boxes
        trainer._train_epoch_mixed(tqdm(disable=True))

    return step
