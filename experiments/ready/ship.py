"""Write a trained model as the model that ships with LooseBox, in half precision and with a line on its training data.

python experiments/ready/ship.py results/ready/train/joint/ready/0.safetensors
"""

import sys
from dataclasses import replace

import torch

from pipeline_lib.data.model_header import SHIPPED_FILE, ModelHeader
from pipeline_lib.model.box_model import write_model
from pipeline_lib.model.checkpoints import read_tensors

ABOUT = (
    "LooseBox's shipped model, trained on nine open sets of micrographs (SEM and TEM axons, chloroplasts, a sieve "
    "plate, fly neurites, metal powder, carbides, superalloys) and on generated tissue"
)


def ship(model: str) -> None:
    """Write the model at a path in half precision to the place of the shipped model."""
    header = replace(ModelHeader.read(model), about=ABOUT)
    tensors = {key: tensor.to(torch.float16) for key, tensor in read_tensors(model).items()}
    write_model(SHIPPED_FILE, tensors, header)
    print(f"{SHIPPED_FILE}: {SHIPPED_FILE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    ship(sys.argv[1])
