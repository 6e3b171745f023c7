"""Which room may import which, and what a job does not wait for: modules that its stage has no use for."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pipeline_lib

LIBRARY = Path(pipeline_lib.__file__).parent
# of each room or module at the root, the ones that it can import
KNOWS = {"errors": set(), "settings": {"errors"}, "runtime": {"errors", "settings"}}
KNOWS["data"] = {*KNOWS["runtime"], "runtime"}
KNOWS["config"] = {*KNOWS["data"], "data"}
KNOWS["model"] = {*KNOWS["data"], "data"}
KNOWS["inference"] = {*KNOWS["model"], "model"}
KNOWS["training"] = {*KNOWS["inference"], "inference"}
KNOWS["evaluation"] = {*KNOWS["data"], "data"}  # no network to know how good its masks are
KNOWS["report"] = {*KNOWS["evaluation"], "evaluation"}
KNOWS["stages"] = {*KNOWS["training"], "training", *KNOWS["report"], "report"}  # which no stage imports
# beside Snakemake, what calls stages
KNOWS["api"] = {*KNOWS["stages"], "stages", "config"}
KNOWS["commands"] = {*KNOWS["api"], "api"}
KNOWS["cli"] = {*KNOWS["commands"], "commands"}
KNOWS["__init__"], KNOWS["__main__"] = {"api"}, {"cli"}

NETWORKS = {"torch", "torchvision", "segment_anything", "safetensors"}
COMPILER = {"torchvision", "torch._dynamo", "torch._inductor", "sympy"}
PLOTTING = {"matplotlib"}
WORKFLOW = {"snakemake"}  # stages know nothing of it


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Modules of the library that a file imports, in whichever way and place."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{name}" for name in names] if node.module == "pipeline_lib" else [node.module or ""]
            )
        yield from (name for name in names if name.startswith("pipeline_lib."))


def upward_imports(library: Path) -> Iterator[str]:
    """What modules import from rooms that theirs must not know."""
    for file in sorted(library.rglob("*.py")):
        room = file.relative_to(library).with_suffix("").parts[0]
        for module in imported_modules(ast.parse(file.read_text())):
            if module.split(".")[1] not in KNOWS[room] | ({room} - {"stages"}):
                yield f"{file.relative_to(library)} imports {module}"


def test_no_room_imports_from_a_higher_one() -> None:
    assert list(upward_imports(LIBRARY)) == []


def test_a_planted_upward_import_is_found(tmp_path: Path) -> None:
    shutil.copytree(LIBRARY, tmp_path / "library", ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    with (tmp_path / "library/data/boxes.py").open("a") as file:
        file.write("\nfrom pipeline_lib.training.losses import LOSSES\n")
    with (tmp_path / "library/stages/score.py").open("a") as file:
        file.write("\nimport pipeline_lib.stages.boxes\n")
    assert list(upward_imports(tmp_path / "library")) == [
        "data/boxes.py imports pipeline_lib.training.losses",
        "stages/score.py imports pipeline_lib.stages.boxes",
    ]


def imported(*stages):
    """Import stages one after the other in a fresh interpreter, and return the new modules of each."""
    code = f"""
import importlib, json, sys
modules, before = {{}}, set()
for stage in {stages!r}:
    importlib.import_module(f"pipeline_lib.stages.{{stage}}")
    modules[stage] = list(set(sys.modules) - before)
    before = set(sys.modules)
print(json.dumps(modules))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {stage: set(modules) for stage, modules in json.loads(shown.stdout).items()}


def test_stages_without_a_network_import_no_network_library():
    modules = imported("raw", "convert", "boxes", "score", "tables", "prompts", "collect")
    unwanted = {stage: new & (NETWORKS | COMPILER | PLOTTING | WORKFLOW) for stage, new in modules.items()}
    assert unwanted.pop("prompts") <= {"safetensors"}
    assert not any(unwanted.values()), unwanted


def test_stages_with_a_network_import_no_compiler():
    modules = imported("weights", "embed", "refine")
    assert "torch" in modules["weights"]
    unwanted = {stage: new & (COMPILER | PLOTTING | WORKFLOW) for stage, new in modules.items()}
    assert not any(unwanted.values()), unwanted


def test_the_command_predict_imports_neither_the_compiler_nor_charts():
    code = "import json, sys, pipeline_lib.cli; print(json.dumps(list(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(shown.stdout)) & (COMPILER | PLOTTING | WORKFLOW)


def test_building_a_network_without_weights_imports_no_compiler():
    code = """
import json, sys
from pipeline_lib.model.box_model import box_model
from pipeline_lib.settings.model import Token, ModelConfig
from pipeline_lib.model.backbones import build, on_meta_device
with on_meta_device():
    for backbone in "micro", "vit_b":
        box_model(build(backbone), ModelConfig(trains=(), token=Token(width=128, count=1)))
print(json.dumps(list(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(shown.stdout)) & COMPILER


def test_the_rest_of_segment_anything_is_there_for_those_who_ask():
    code = """
from pipeline_lib.model.upstream import Sam
import sys
assert "segment_anything.predictor" not in sys.modules
import segment_anything
from segment_anything import SamPredictor, sam_model_registry
assert segment_anything.modeling.Sam is Sam
assert SamPredictor.__module__ == "segment_anything.predictor"
assert not hasattr(segment_anything, "nothing")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
