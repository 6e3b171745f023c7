"""What a job's GPU must hold, estimated without one, and its machine for the weights: `python -m benchmarks.memory`.

On the GPU, every tensor of a call is counted on fake ones, which have shapes and no content: nothing is computed. What
CUDA's libraries and context take, and what the caching allocator cannot reuse, comes on top.
"""

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.report import in_process, table, write_section
from benchmarks.train import recipe_of, step
from pipeline_lib.model import image_encoder
from pipeline_lib.model.backbones import build
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.frame import Frame
from pipeline_lib.settings.model import ModelConfig, Token
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.sampling import Batch
from pipeline_lib.training.trainer import Trainer

SIDE = 1024  # of a tile, pixels
LOAD = """
import sys, time
import pipeline_lib.stages.{job}
from pipeline_lib.model.box_model import load_untrained
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.model.backbones import load_backbone
kept = {load}
print(time.process_time())
"""
LOADS = {
    "embed": "load_backbone(sys.argv[1])",
    "train": "load_untrained(sys.argv[1], ModelConfig(trains=(), token=None))",
}
OBJECTS = 16, 32  # of a tile; the first is config.yaml's objects_per_tile
PROPOSED = ModelConfig(trains=("mask_decoder", "deviation_token"), token=Token(width=128, count=1))


class Accountant(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, by their storages."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.count(tensor for tensor in tree_leaves(made) if isinstance(tensor, Tensor))
        return made

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Add what is not counted yet, until it is freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.held += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.held)

    def _forget(self, storage: int, size: int) -> None:
        self._known.remove(storage)
        self.held -= size


def encode(accountant: Accountant, backbone: str, tiles: int) -> None:
    """A call of the frozen encoder as of the stage `embed`, in float32; the rest of the network is there too."""
    with torch.device("cuda"):  # on which attention takes another way than on a CPU; fake tensors need none
        sam, batch = build(backbone), torch.zeros(tiles, 3, SIDE, SIDE)
    accountant.count([*sam.parameters(), *sam.buffers()])
    with accountant, torch.no_grad():
        image_encoder.encode(sam.image_encoder, batch)


def train(accountant: Accountant, backbone: str, objects: int) -> None:
    """Two steps as of the stage `train`: the optimiser's state is there from the first one on.

    In float32, because which operators return bfloat16 would be the choice of a CPU's autocast, not of a GPU's.
    """
    train_config, frame = recipe_of(objects, "float32"), Frame((SIDE, SIDE), SIDE)
    run = Trainer(box_model(build(backbone), PROPOSED), PROPOSED, train_config, Path("unused"), "")
    boxes = np.tile(np.array([[100, 100, 300, 300]], np.float32), (objects, 1))
    accountant.count([*run.model.parameters(), *run.model.buffers()])
    with accountant:
        masks = torch.zeros(objects, SIDE, SIDE, dtype=torch.bool)
        batch = Batch(torch.zeros(1, 256, 64, 64), boxes, boxes, masks)
        for _ in range(2):
            step(run, frame, batch, train_config)


def peak(work: Callable[[Accountant], None]) -> float:
    """GB that the work's tensors take together where they take most."""
    accountant = Accountant()
    with FakeTensorMode(allow_non_fake_inputs=True):
        work(accountant)
    return accountant.peak / 1e9


def loading(backbone: str) -> list[float]:
    """MB of processes that load what each of `LOADS` needs of a backbone's pickle, as the released weights are."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder, "weights.pth")
        torch.save(build(backbone).state_dict(), checkpoint)
        weights(
            manifest=f"{folder}/manifest", backbone={"name": backbone, "checkpoint": str(checkpoint)}, folder=folder
        )
        manifest = f"{folder}/manifest"
        return [in_process(LOAD.format(job=job, load=load), manifest).peak for job, load in LOADS.items()]


def main() -> None:
    """Estimate, and write the README's section."""
    works = {
        f"embed, {name}, {tiles} tile{'s' if tiles > 1 else ''} a call": partial(encode, backbone=name, tiles=tiles)
        for name in ("vit_b", "vit_h")
        for tiles in (1, 4)
    }
    for count in OBJECTS:
        works[f"train, vit_b, {count} objects a step, float32"] = partial(train, backbone="vit_b", objects=count)
    rows = [[name, f"{peak(work):.2f}"] for name, work in works.items()]
    loads = [[name, *(f"{peak / 1000:.2f}" for peak in loading(name))] for name in ("micro", "vit_b", "vit_h")]
    tables = (
        table([f"on the GPU, {SIDE} × {SIDE} pixels, estimated", "GB"], rows),
        table(
            ["a job's resident memory once its weights are loaded, measured peak", *(f"{job}, GB" for job in LOADS)],
            loads,
        ),
    )
    write_section("memory", "\n\n".join(tables))


if __name__ == "__main__":
    main()
