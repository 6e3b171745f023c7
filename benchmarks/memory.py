"""Measure the memory of a job that has loaded a backbone's weights: `python -m benchmarks.memory`.

The weights are random and lie in a PyTorch pickle, as released weights do. `workflow/rules` asks for memory by these
figures.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.measuring import in_process, machine, table
from benchmarks.networks import random_sam
from pipeline_lib.api import backbone_choice
from pipeline_lib.stages.weights import weights

LOAD = """
import sys, time
import pipeline_lib.stages.{stage}
from pipeline_lib.model.backbones import load_to_encode
from pipeline_lib.model.box_model import load_untrained
from pipeline_lib.settings.model import ModelConfig
network = {load}
print(time.process_time())
"""
LOADS = {
    "embed": "load_to_encode(sys.argv[1], 'float32')",
    "train": "load_untrained(sys.argv[1], ModelConfig(trains=(), token=None))",
}


def loaded(name: str) -> list[str]:
    """Return the peak memory of a job of each stage in `LOADS`, GB."""
    with TemporaryDirectory() as folder:
        manifest, checkpoint = f"{folder}/manifest.json", Path(folder, "weights.pth")
        torch.save(random_sam(name).state_dict(), checkpoint)
        weights(manifest=manifest, backbone=backbone_choice(name, checkpoint=checkpoint), folder=folder)
        costs = [in_process(LOAD.format(stage=stage, load=load), manifest) for stage, load in LOADS.items()]
    return [f"{cost.peak / 1000:.2f}" for cost in costs]


def main() -> None:
    """Measure, and print the table."""
    rows = [[name, *loaded(name)] for name in ("micro", "vit_b", "vit_h")]
    print(machine(1), table(["backbone", *(f"{stage}, GB" for stage in LOADS)], rows), sep="\n\n")


if __name__ == "__main__":
    main()
