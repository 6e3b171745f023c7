"""OpenVINO in the place of torch: the same embeddings, a network that is converted once, and the way without it."""

import subprocess
import sys
from functools import partial
from importlib.metadata import requires

import pytest
import torch
from helpers.stages import run_stage
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from pipeline_lib.model import backbones, openvino_encoder
from pipeline_lib.model.backbones import build, load_backbone, load_to_encode
from pipeline_lib.model.embeddings import encode_tiles, engine_of
from pipeline_lib.model.openvino_encoder import OpenVinoEncoder, convert, read_converted, suits, write_converted
from pipeline_lib.model.tiny_vit import TinyViT
from pipeline_lib.runtime.device import multiplies_bfloat16
from pipeline_lib.stages.weights import weights

BFLOAT16_ERROR = 0.1  # of an embedding's norm

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, torch runs the encoder")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litemedsam")
    backbone = {"name": "litemedsam", "checkpoint": None}
    run_stage(weights, manifest=str(folder / "manifest"), backbone=backbone, folder=str(folder))
    return folder / "manifest"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An empty folder of caches, which the first test that loads an encoder fills."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "loosebox" / "encoders"


@pytest.fixture
def conversions(monkeypatch):
    """The names of the encoders that are converted."""
    names = []

    def counted(encoder):
        names.append(type(encoder).__name__)
        return convert(encoder)

    monkeypatch.setattr(backbones, "convert", counted)
    return names


@pytest.fixture(scope="module")
def tiles():
    """A tile of blobs, as `to_network` returns it."""
    coarse = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (256, 256), mode="bicubic").clamp(0, 1)
    return list((255 * smooth[:, 0]).to(torch.uint8))


@pytest.fixture(scope="module")
def embeddings(manifest, tiles):
    """Those of torch, in float32."""
    return encode_tiles(load_backbone(manifest), tiles, "float32")


def relative_error(ours, expected):
    return float((ours - expected).norm() / expected.norm())


def test_embeddings_are_those_of_torch_and_the_network_is_converted_once(
    manifest, kept, conversions, tiles, embeddings
):
    for _ in range(2):
        sam = load_to_encode(manifest, "float32")
        assert engine_of(sam) == "openvino"
        torch.testing.assert_close(encode_tiles(sam, tiles, "float32"), embeddings, rtol=0, atol=1e-4)
    assert conversions == ["TinyViT"]
    assert [path.suffix for path in kept.iterdir()] == [".zip"]


@pytest.mark.skipif(not multiplies_bfloat16(), reason="OpenVINO does not emulate bfloat16")
def test_bfloat16_embeds_nearly_alike(manifest, kept, tiles, embeddings):
    rounded = encode_tiles(load_to_encode(manifest, "bfloat16"), tiles, "bfloat16")
    assert 1e-3 < relative_error(rounded, embeddings) < BFLOAT16_ERROR


def test_a_processor_without_units_for_bfloat16_leaves_it_to_torch(monkeypatch):
    encoder = build("litemedsam").image_encoder
    monkeypatch.setattr(openvino_encoder, "multiplies_bfloat16", lambda: False)
    assert suits(encoder, "float32")
    assert not suits(encoder, "bfloat16")


@pytest.mark.parametrize(("name", "suited"), [("micro", False), ("litemedsam", True), ("mobile_sam", True)])
def test_micro_stays_with_torch(name, suited):
    assert suits(build(name).image_encoder, "float32") == suited


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def outdate(path):
    path.write_bytes(path.read_bytes()[:-8] + b"outdated")


class Doubling(nn.Module):
    """A network that is converted at once."""

    img_size = 4

    def forward(self, image):
        return 2 * image


@pytest.mark.parametrize("spoil", [damage, cut, outdate])
def test_a_kept_network_that_is_damaged_or_outdated_is_replaced(tmp_path, caplog, spoil):
    path, network, image = tmp_path / "encoders" / "doubling.zip", convert(Doubling()), torch.ones(1, 3, 4, 4)
    assert read_converted(path) is None
    write_converted(path, network)
    spoil(path)
    assert read_converted(path) is None
    assert ("damaged" in caplog.text) == (spoil is not outdate)
    write_converted(path, network)
    torch.testing.assert_close(OpenVinoEncoder(read_converted(path), 4, "float32")(image), 2 * image)
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_warned_of(tmp_path, caplog):
    (tmp_path / "encoders").write_text("a file")
    write_converted(tmp_path / "encoders" / "doubling.zip", convert(Doubling()))
    assert "cannot be written, so that each job converts the encoder again" in caplog.text


def test_without_openvino_torch_runs_the_encoder(manifest, monkeypatch):
    monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None)
    sam = load_to_encode(manifest, "float32")
    assert engine_of(sam) == "torch"
    assert isinstance(sam.image_encoder, TinyViT)


def test_vit_is_converted_too():
    """Two small blocks, one with windows and one without, on a grid that windows do not fill; all weights random."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=320,
        embed_dim=192,
        depth=2,
        num_heads=3,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    ).requires_grad_(False)
    for parameter in encoder.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    image = torch.randn(1, 3, 320, 320)
    ours = OpenVinoEncoder(convert(encoder), 320, "float32")(image)
    torch.testing.assert_close(ours, encoder(image), rtol=0, atol=1e-4)


def test_nothing_is_reported_to_the_makers_of_openvino(tmp_path):
    """A stand-in for the package that reports, which pip installs with OpenVINO, is not imported."""
    assert any("openvino-telemetry" in line for line in requires("openvino")), "remove the guard"
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry/__init__.py").write_text("raise SystemExit('telemetry')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from torch import nn
from pipeline_lib.model.openvino_encoder import convert
relu = nn.ReLU()
relu.img_size = 4
convert(relu)
print("converted")
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout == "converted\n", shown.stderr
