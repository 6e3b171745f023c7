"""How each stage's time and memory grow with the data: `python -m benchmarks.growth [--backbone micro]`.

Generated cells, once, four and sixteen times as many slices, a third of them in each split, through each stage's
function in a process of its own, on a backbone whose weights are at hand, with config.yaml's settings, all objects of
the validation split, and one epoch. Time is CPU time within the function; the exponent is the slope of its logarithm
over that of the slices, of all sizes and of the larger two, where what is spent once per job hides less of it.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from benchmarks.report import Cost, in_process, machine, table, write_section

ROOT = Path(__file__).parents[1]
TIMES = (1, 4, 16)
LEVEL = 30  # per cent of deviation
CODE = """
import json, sys, time
from pipeline_lib.stages.{stage} import {stage}
began = time.process_time()
{stage}(**json.loads(sys.argv[1]))
print(time.process_time() - began)
"""


def calls(folder: Path, slices: int, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each stage's arguments, in order."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    third, dataset, model = slices // 3, config["datasets"]["cells"], config["models"]["proposed"]
    split = {"train": [0, third], "validation": [third, 2 * third], "test": [2 * third, 3 * third]}
    dataset["source"] |= {"slices": slices, "size": [given.side, given.side]}
    dataset["volumes"][0]["split"] = split
    files = {name: str(folder / name) for name in ("manifest", "store", "weights", "embeddings")}
    files |= {"boxes": str(folder / "boxes.csv"), "model": str(folder / "model.safetensors")}
    data = {name: files[name] for name in ("store", "boxes")}
    embedded = data | {name: files[name] for name in ("embeddings", "weights")}
    named = {"dataset": "cells", "seed": 0, "deviation": config["deviation"]}
    tested = {key: config["experiment"][key] for key in ("split", "objects")}
    settings = {key: value for key, value in config["train"].items() if key not in ("mixes", "validation_levels")}
    model_config = {"trains": model["trains"], "token": config["token"], "mix": config["train"]["mixes"][model["mix"]]}
    return {
        "raw": {"manifest": files["manifest"], "dataset": dataset},
        "convert": {"manifest": files["manifest"], "store": files["store"], "dataset": dataset},
        "boxes": data,
        "weights": {
            "manifest": files["weights"],
            "backbone": {"name": given.backbone, "checkpoint": None},
            "folder": str(folder),
        },
        "embed": embedded | {"timing": str(folder / "embed.json"), **config["embed"]},
        "train": embedded
        | named
        | {
            "model": files["model"],
            "curve": str(folder / "curve"),
            "model_config": model_config,
            "settings": settings | {"epochs": 1, "validation_objects": sys.maxsize},
            "levels": config["train"]["validation_levels"],
        },
        "refine": embedded
        | named
        | {
            "model": files["model"],
            "iterations": str(folder / "iterations.parquet"),
            "timing": str(folder / "refine.json"),
            "level": LEVEL,
            "tested": tested,
            "settings": config["refine"],
        },
        "score": data
        | {"iterations": str(folder / "iterations.parquet"), "scores": str(folder / "scores.csv"), "tested": tested},
    }


def exponent(slices: list[int], amounts: list[float]) -> float:
    """The slope of log(amount) over log(slices), by least squares."""
    return float(np.polyfit(np.log(slices), np.log(amounts), 1)[0])


def measure(slices: list[int], given: argparse.Namespace) -> str:
    """A row for each stage."""
    costs: dict[str, list[Cost]] = {}
    for count in slices:
        with TemporaryDirectory() as folder:
            for stage, arguments in calls(Path(folder), count, given).items():
                costs.setdefault(stage, []).append(in_process(CODE.format(stage=stage), json.dumps(arguments)))
    rows = [
        [
            stage,
            *(f"{cost.seconds:.2f}" for cost in each),
            *(f"{exponent(slices[start:], [cost.seconds for cost in each[start:]]):.2f}" for start in (0, 1)),
            *(f"{cost.peak:.0f}" for cost in each),
        ]
        for stage, each in costs.items()
    ]
    seconds, peaks = ([f"{name}, {count} slices" for count in slices] for name in ("CPU s", "peak MB"))
    return table(["stage", *seconds, "exponent", "of the larger two", *peaks], rows)


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=["micro", "litemedsam"], default="micro")
    parser.add_argument("--slices", type=int, default=12, help="of the smallest run, a multiple of three")
    parser.add_argument("--side", type=int, default=256, help="of a slice, pixels")
    given = parser.parse_args()
    slices = [given.slices * times for times in TIMES]
    text = f"{machine()}; slices of {given.side} × {given.side} pixels; one run of each."
    write_section(f"growth of {given.backbone}", f"{text}\n\n{measure(slices, given)}")


if __name__ == "__main__":
    main()
