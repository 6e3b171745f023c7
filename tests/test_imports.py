"""What a job does not wait for: modules that its stage has no use for are not imported."""

import json
import subprocess
import sys

import pytest

NETWORKS = {"torch", "torchvision", "segment_anything", "safetensors"}
COMPILER = {"torchvision", "torch._dynamo", "torch._inductor", "sympy"}
PLOTTING = {"matplotlib"}
WORKFLOW = {"snakemake"}  # stages know nothing of it


def imported(stage):
    """The modules that importing a stage brings into a fresh interpreter."""
    code = f"import json, sys, pipeline_lib.{stage}; print(json.dumps(list(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(shown.stdout))


@pytest.mark.parametrize("stage", ["raw", "convert", "boxes", "score", "tables"])
def test_a_stage_without_a_network_imports_no_network_library(stage):
    assert not imported(stage) & (NETWORKS | COMPILER | PLOTTING | WORKFLOW)


@pytest.mark.parametrize("stage", ["weights", "embed", "refine"])
def test_a_stage_with_a_network_imports_no_compiler(stage):
    modules = imported(stage)
    assert "torch" in modules
    assert not modules & (COMPILER | PLOTTING | WORKFLOW)


@pytest.mark.parametrize("backbone", ["micro", "vit_b"])
def test_building_a_network_without_weights_imports_no_compiler(backbone):
    code = f"""
import json, sys
from pipeline_lib.sam import Token, Variant, box_model, build, shapes_only
with shapes_only():
    box_model(build({backbone!r}), Variant((), Token(128, 1)))
print(json.dumps(list(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(shown.stdout)) & COMPILER


def test_the_rest_of_segment_anything_is_there_for_those_who_ask():
    code = """
from pipeline_lib.stock import Sam
import sys
assert "segment_anything.predictor" not in sys.modules
import segment_anything
from segment_anything import SamPredictor, sam_model_registry
assert segment_anything.modeling.Sam is Sam
assert SamPredictor.__module__ == "segment_anything.predictor"
assert not hasattr(segment_anything, "nothing")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
