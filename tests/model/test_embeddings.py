"""Embeddings are SAM's own, made once, and refused when they are of something else."""

import errno
import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from helpers.stages import run_stage
from safetensors.torch import save_file
from segment_anything import SamPredictor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from pipeline_lib.data.dataset import Store, record_digests
from pipeline_lib.errors import DataError, StaleEmbeddingsError
from pipeline_lib.model.embeddings import Embeddings, encode_tiles, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.micro import MicroEncoder
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.embed import embed
from pipeline_lib.stages.weights import weights

TILE = (90, 130)
OBJECTS = np.zeros((3, 90, 200), np.uint32)  # of each slice, image 2z is a full tile, 2z + 1 an edge tile of width 70
OBJECTS[0, 10:30, 20:60] = 1
OBJECTS[1, 50:80, 140:170] = 1
OBJECTS[1, 5:9, 5:9] = 2
WITH_BOXES = [0, 2, 3]


@pytest.fixture
def files(make_store, micro, tmp_path):
    """A store of noise, its table of boxes and a manifest of micro, as paths."""
    noise = np.random.default_rng(0).integers(0, 256, OBJECTS.shape)
    store = make_store(OBJECTS, ["train", "test", "test"], images=noise, tile=TILE)
    table = str(tmp_path / "boxes.csv")
    boxes(store=store, boxes=table)
    return {"store": store, "boxes": table, "weights": write_weights(micro.state_dict(), tmp_path / "micro")}


def write_weights(tensors, folder):
    folder.mkdir()
    save_file(tensors, folder / "weights.safetensors")
    backbone = {"name": "micro", "checkpoint": str(folder / "weights.safetensors")}
    run_stage(weights, manifest=str(folder / "manifest.json"), backbone=backbone, folder=str(folder))
    return str(folder / "manifest.json")


@pytest.fixture
def run(files, tmp_path):
    """Run the stage and return the path of its embeddings."""

    def embed_files(**changed):
        path = str(tmp_path / "embeddings.zarr")
        settings = {"precision": "float32", "dtype": "float32", "batch": 2} | changed
        embed(**files, embeddings=path, timing=str(tmp_path / "timing.json"), **settings)
        return path

    return embed_files


@pytest.fixture
def encoded_batches():
    """The sizes of the batches that go through micro's image encoder."""
    sizes = []

    def count(module, inputs, output):
        if isinstance(module, MicroEncoder):
            sizes.append(len(inputs[0]))

    with register_module_forward_hook(count):
        yield sizes


def features(sam, image):
    """What `SamPredictor.set_image` makes of a grey image."""
    predictor = SamPredictor(sam)
    predictor.set_image(np.stack([image] * 3, axis=-1))
    return predictor.features


def test_vit_b_embeds_a_grey_image_as_the_stock_predictor(predictor, grey):
    ours = encode_tiles(predictor.model, [to_network(grey, Frame(grey.shape, 1024))], "float32")
    assert predictor.features.std() > 0.1
    torch.testing.assert_close(ours, predictor.features, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(256, 256), (90, 130), (300, 211)])
def test_micro_embeds_a_grey_image_as_the_stock_predictor(micro, shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    ours = encode_tiles(micro, [to_network(image, Frame(shape, 256))], "float32")
    torch.testing.assert_close(ours, features(micro, image), rtol=0, atol=1e-5)


def test_an_edge_tile_is_scaled_like_a_full_one_and_padded_with_zeros_after_normalisation(micro):
    image = np.random.default_rng(1).integers(0, 256, (256, 100), dtype=np.uint8)
    padded = torch.zeros(1, 3, 256, 256)
    padded[..., :100] = (torch.from_numpy(image) - 128.0) / 64.0
    ours = encode_tiles(micro, [to_network(image, Frame((256, 256), 256))], "float32")
    torch.testing.assert_close(ours, micro.image_encoder(padded))


def test_stored_embeddings_are_those_of_the_stock_predictor(run, files, micro):
    opened = Embeddings.open(run(batch=1), files["store"], files["weights"])
    image = zarr.open_array(files["store"], path="0")[1, :, :130]
    assert opened[2].shape == (1, 256, 32, 32)
    torch.testing.assert_close(opened[2], features(micro, image), rtol=0, atol=1e-5)


def test_batches_of_another_size_differ_by_rounding_only(run, files):
    """The convolutions of a batch take another path than those of one image, with errors of 6e-5 instead of 4e-6."""
    single, together = (Embeddings.open(run(batch=batch), files["store"], files["weights"])[2] for batch in (1, 3))
    torch.testing.assert_close(together, single, rtol=0, atol=2e-4)


@contextmanager
def failing_after(batches):
    """Let micro's encoder fail once it has encoded so many batches."""
    left = iter(range(batches))

    def fail(module, inputs):
        if isinstance(module, MicroEncoder):
            next(left)

    with register_module_forward_pre_hook(fail), pytest.raises(StopIteration):
        yield


def test_a_restarted_run_encodes_only_what_is_missing_and_writes_the_same_bytes(run, encoded_batches, tmp_path):
    whole = zarr.open_array(run(batch=1), mode="r")[:]
    shutil.rmtree(tmp_path / "embeddings.zarr")
    with failing_after(2):
        run(batch=1)
    assert not (tmp_path / "embeddings.zarr").exists()
    encoded_batches.clear()
    restarted = zarr.open_array(run(batch=1), mode="r")
    assert encoded_batches == [1]
    np.testing.assert_array_equal(restarted[:], whole)
    assert json.loads((tmp_path / "timing.json").read_text())["tiles"] == len(WITH_BOXES)
    assert not list(tmp_path.glob("*.journal")) + list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("again", [{"precision": "bfloat16"}, {"dtype": "float16"}, {"batch": 2}, {"code": "1"}])
def test_batches_of_a_run_with_other_settings_are_not_taken_over(run, encoded_batches, again):
    with failing_after(2):
        run(batch=1)
    encoded_batches.clear()
    run(**{"batch": 1, **again})
    assert sum(encoded_batches) == len(WITH_BOXES)


def test_a_batch_whose_files_could_not_be_written_is_not_noted(run, encoded_batches, tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pipeline_lib.stages.embed.to_disk", full)
    with pytest.raises(OSError, match="No space left"):
        run(batch=1)
    monkeypatch.undo()
    encoded_batches.clear()
    run(batch=1)
    assert sum(encoded_batches) == len(WITH_BOXES)


KILLED_AT_THE_THIRD_FILE = """
import json, os, sys
from pipeline_lib.stages import embed
on_disk, left = embed.to_disk, iter(range(2))
embed.to_disk = lambda path: os._exit(9) if next(left, None) is None else on_disk(path)
embed.embed(**json.loads(sys.argv[1]))
"""


def test_a_run_that_was_killed_while_it_wrote_goes_on_and_ends_with_the_same_bytes(
    run, files, encoded_batches, tmp_path
):
    whole = zarr.open_array(run(batch=1), mode="r")[:]
    shutil.rmtree(tmp_path / "embeddings.zarr")
    paths = {"embeddings": str(tmp_path / "embeddings.zarr"), "timing": str(tmp_path / "timing.json")}
    slots = {**files, **paths, "precision": "float32", "dtype": "float32", "batch": 1}
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_THE_THIRD_FILE, json.dumps(slots)])
    assert killed.returncode == 9
    encoded_batches.clear()
    np.testing.assert_array_equal(zarr.open_array(run(batch=1), mode="r")[:], whole)
    assert encoded_batches == [1]


def test_an_image_that_cannot_be_read_is_an_error(run, files):
    chunk = next(Path(files["store"], "0/c/1").rglob("1"))
    chunk.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"0/c/1/0/\d: missing or damaged"):
        run(batch=1)


def test_a_journal_without_its_embeddings_is_worth_nothing(run, encoded_batches, tmp_path):
    with failing_after(2):
        run(batch=1)
    shutil.rmtree(tmp_path / "embeddings.zarr.unfinished")
    encoded_batches.clear()
    run(batch=1)
    assert sum(encoded_batches) == len(WITH_BOXES)


def lose(chunk):
    chunk.unlink()


def flip(chunk):
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)


def blank(chunk):
    chunk.write_bytes(bytes(chunk.stat().st_size))


@pytest.mark.parametrize("spoil", [lose, flip, blank])
def test_noted_embeddings_that_were_lost_or_damaged_are_made_again(run, tmp_path, encoded_batches, spoil):
    with failing_after(2):
        run(batch=1)
    spoil(tmp_path / "embeddings.zarr.unfinished/c/0/0/0/0")
    encoded_batches.clear()
    run(batch=1)
    assert sum(encoded_batches) == len(WITH_BOXES)


@pytest.mark.parametrize("spoil", [lose, flip, blank])
def test_a_finished_embedding_that_is_lost_or_damaged_is_an_error(run, files, spoil):
    path = run(batch=1)
    spoil(Path(path, "c/0/0/0/0"))
    with pytest.raises(DataError, match=r"c/0/0/0/0"):
        Embeddings.open(path, files["store"], files["weights"])[0]


@pytest.mark.parametrize("part", ["0", "labels/objects/0"])
@pytest.mark.parametrize("spoil", [lose, flip, blank])
def test_a_tile_that_is_lost_or_damaged_is_an_error(files, part, spoil):
    chunk = next(path for path in Path(files["store"], part, "c").rglob("*") if path.is_file())
    spoil(chunk)
    store = Store.open(files["store"])
    read = store.pixels if part == "0" else store.objects
    with pytest.raises(DataError, match=f"{part}/c/"):
        list(map(read, range(len(store))))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_each_image_with_boxes_is_encoded_exactly_once(run, encoded_batches, batch):
    run(batch=batch)
    assert sum(encoded_batches) == len(WITH_BOXES)
    assert max(encoded_batches) <= batch


def test_only_images_with_boxes_are_written(run):
    array = zarr.open_array(run(), mode="r")
    assert [bool(np.any(array[image])) for image in range(6)] == [image in WITH_BOXES for image in range(6)]


def test_an_image_without_boxes_has_no_embedding(run, files):
    opened = Embeddings.open(run(), files["store"], files["weights"])
    with pytest.raises(StaleEmbeddingsError, match="tile 1 "):
        opened[1]


def test_half_precision_is_stored_as_such_and_read_in_float32(run, files):
    full = Embeddings.open(run(), files["store"], files["weights"])[0]
    path = run(dtype="float16")
    half = Embeddings.open(path, files["store"], files["weights"])[0]
    assert zarr.open_array(path, mode="r").dtype == np.float16
    torch.testing.assert_close(half, full.half().float(), rtol=0, atol=0)


def test_timing_tells_the_number_of_images_and_the_seconds(run, tmp_path):
    run()
    timing = json.loads((tmp_path / "timing.json").read_text())
    assert timing["tiles"] == len(WITH_BOXES)
    assert timing["seconds_per_tile"] > 0


def test_a_changed_image_makes_embeddings_stale(run, files):
    path = run()
    zarr.open_array(files["store"], path="0", mode="r+")[1, 0, 199] ^= 1
    record_digests(files["store"], Store.open(files["store"]).images)
    opened = Embeddings.open(path, files["store"], files["weights"])
    with pytest.raises(StaleEmbeddingsError, match=r"embeddings\.zarr: tile 3 has changed"):
        opened[3]
    assert opened[2].isfinite().all()  # a job that has no use for the changed image goes on


def test_fewer_images_make_embeddings_stale(run, files, make_store):
    path = run()
    images = zarr.open_array(files["store"], path="0")[:1]
    fewer = make_store(OBJECTS[:1], ["train"], images=images, tile=TILE, name="fewer")
    with pytest.raises(StaleEmbeddingsError, match=r"made from 6 tiles, but .*fewer\.zarr has 2"):
        Embeddings.open(path, fewer, files["weights"])


def test_other_weights_make_embeddings_stale(run, files, micro, tmp_path):
    moved = {key: value + 1 for key, value in micro.state_dict().items()}
    with pytest.raises(StaleEmbeddingsError, match=r"embeddings\.zarr: .*backbone was '\w{32}' and is '\w{32}'"):
        Embeddings.open(run(), files["store"], write_weights(moved, tmp_path / "other"))


@pytest.mark.parametrize(
    ("name", "was"), [("dtype", "float16"), ("preprocessing", "as of yesterday"), ("tile", [64, 64])]
)
def test_other_settings_make_embeddings_stale(run, files, name, was):
    path = run()
    zarr.open_array(path, mode="r+").attrs[name] = was
    with pytest.raises(StaleEmbeddingsError, match=f"{name} was "):
        Embeddings.open(path, files["store"], files["weights"])


def test_the_engine_is_recorded_and_decides_the_key(run, files):
    path = run()
    opened = Embeddings.open(path, files["store"], files["weights"])
    assert opened.engine == "torch"
    zarr.open_array(path, mode="r+").attrs["engine"] = "openvino"
    other = Embeddings.open(path, files["store"], files["weights"])
    assert other.engine == "openvino"
    assert other.key != opened.key


def test_embeddings_that_name_no_engine_are_stale(run, files):
    path = run()
    del zarr.open_array(path, mode="r+").attrs["engine"]
    with pytest.raises(StaleEmbeddingsError, match="engine was None"):
        Embeddings.open(path, files["store"], files["weights"])


def test_the_key_changes_with_precision_and_dtype_only(run, files):
    settings = [{}, {"batch": 1}, {"precision": "bfloat16"}, {"dtype": "float16"}]
    keys = [Embeddings.open(run(**each), files["store"], files["weights"]).key for each in settings]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
