"""Small data, and networks with random weights, that several modules' tests start from."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import random_backbone
from helpers.running import SMALL, finished_run
from helpers.stages import run_stage
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save_file
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from pipeline_lib.data.dataset import Slice, create, record_digests
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.convert import convert
from pipeline_lib.stages.embed import embed
from pipeline_lib.stages.raw import raw
from pipeline_lib.stages.weights import weights

SLOW = ("finished", "predictor")  # fixtures of the session that are worth being made once, and not by each worker
# Groups that take a minute or more, the longest first. The others are short, so that all workers end at about the same
# time. `pytest --durations=30` shows when this order is out of date.
LONG = [
    "slurm",
    "finished",
    "workflow/test_predict.py",
    "faults/test_matrix.py",
    "model/test_export.py",
    "predictor",
    "workflow/test_train_command.py",
]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker whole files, and one of them all tests that use a slow fixture of the session.

    Long groups come first. The tests on SLURM wait half of their time: with one worker more than cores, none is idle.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: LONG.index(_group(item)) if _group(item) in LONG else len(LONG))


def _group(item: pytest.Item) -> str:
    if item.path.parent.name == "slurm":  # whose `finished` is another one
        return "slurm"
    return next((name for name in SLOW if name in getattr(item, "fixturenames", ())), _file(item))


def _file(item: pytest.Item) -> str:
    return str(item.path.relative_to(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def memory_is_returned() -> Iterator[None]:
    """Let a worker return freed memory: stages keep it, and several workers would need more than a machine has."""
    with pytest.MonkeyPatch.context() as patch:
        for stage in ("embed", "refine", "segment", "track", "train"):
            patch.setattr(f"pipeline_lib.stages.{stage}.keep_freed_memory", lambda: None)
        yield


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., str]:
    """Write a store of given objects (ZYX) and splits (one for each slice); its images are black unless given."""

    def make(
        objects: ArrayLike,
        splits: Sequence[str],
        *,
        images: ArrayLike = 0,
        tile: tuple[int, int] | None = None,
        name: str = "tiny",
    ) -> str:
        objects = np.asarray(objects)
        path = str(tmp_path / f"{name}.zarr")
        size = objects.shape[1:]
        slices = [Slice(split, 0, index, size) for index, split in enumerate(splits)]
        to_images, to_objects = create(path, tile or size, slices, (50.0, 4.0, 4.0))
        to_images[:] = np.broadcast_to(images, objects.shape).astype(np.uint8)
        to_objects[:] = objects.astype(np.uint32)
        record_digests(path, [f"{name}{index}" for index in range(len(objects))])
        return path

    return make


@pytest.fixture(scope="session")
def micro() -> Sam:
    return random_backbone("micro")


@pytest.fixture(scope="session")
def grey() -> NDArray[np.uint8]:
    """A grey image YX, wider than high and smaller than the input of any backbone."""
    return np.random.default_rng(0).integers(0, 256, (90, 130), dtype=np.uint8)


@pytest.fixture(scope="session")
def predictor(grey: NDArray[np.uint8]) -> SamPredictor:
    """segment_anything's own predictor on vit_b, with `grey` set: its encoder takes seconds, so once for all tests."""
    stock = SamPredictor(random_backbone("vit_b"))
    stock.set_image(np.stack([grey] * 3, axis=-1))
    return stock


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, micro: Sam) -> dict[str, str]:
    """What the stages up to `embed` make of four generated tiles (two to train on) and the random `micro`, by slot."""
    folder = tmp_path_factory.mktemp("stages")
    slots = {slot: str(folder / slot) for slot in ("manifest", "store", "boxes", "weights", "embeddings")}
    source = {"kind": "synthetic", "layout": "lab", "slices": 4, "size": [256, 256], "seed": 3}
    split = {"train": [0, 2], "validation": [2, 3], "test": [3, 4]}
    volume = {"images": "images", "labels": "labels", "split": split}
    run_stage(raw, manifest=slots["manifest"], source=source, volumes=[volume], grey_range=None)
    run_stage(
        convert,
        manifest=slots.pop("manifest"),
        store=slots["store"],
        labels={"kind": "instances"},
        minimum_area=600,
        pixel_size=[50, 4, 4],
        grey_range=None,
        tile=256,
    )
    boxes(store=slots["store"], boxes=slots["boxes"])
    save_file(micro.state_dict(), folder / "micro.safetensors")
    checkpoint = {"name": "micro", "checkpoint": str(folder / "micro.safetensors")}
    run_stage(weights, manifest=slots["weights"], backbone=checkpoint, folder=str(folder))
    embed(**slots, timing=str(folder / "timing"), precision="float32", dtype="float32", batch=2)
    return slots


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small experiment; leave it as it was."""
    return finished_run(tmp_path_factory.mktemp("experiment"), SMALL)
