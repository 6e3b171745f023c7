"""experiments/paper.yaml: its plan, and its downloads from a server on this machine with files of the same layout."""

import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import h5py
import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.running import ROOT, planned_jobs, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.dataset import Store

PAPER = yaml.safe_load((ROOT / "experiments/paper.yaml").read_text())
SMALL = {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}
SIZE = (64, 96)


def planes(values: tuple[int, int], colour: bool = False, first: int = 0) -> list[np.ndarray]:
    """Three slices, each with two rectangles of the second value in the first, and a line of its own."""
    stack = np.full((3, *SIZE), values[0], np.uint8)
    stack[:, 5:25, 5:40] = stack[:, 35:60, 50:90] = values[1]
    for number, plane in enumerate(stack, first):
        plane[0, :number] = values[1]  # smaller than an object
    return [np.dstack([plane] * 3 + [np.full_like(plane, 255)]) if colour else plane for plane in stack]


def zipped(path: Path, folders: dict[str, tuple[str, list[np.ndarray]]]) -> None:
    """An archive of folders of numbered images; the names are patterns."""
    with ZipFile(path, "w") as archive:
        for folder, (name, images) in folders.items():
            for number, image in enumerate(images):
                file = name.format(number)
                archive.writestr(f"{folder}/{file}", iio.imwrite("<bytes>", image, extension=Path(file).suffix))


@pytest.fixture
def hosts(tmp_path: Path):
    """A server of three files that are laid out as the real ones, as (URL, checksum) by data set."""
    folder = tmp_path / "hosts"
    folder.mkdir()
    stack = "groundtruth-drosophila-vnc-master/stack1"
    zipped(
        folder / "vnc",
        {
            f"{stack}/raw": ("{:02}.tif", planes((90, 160))),
            f"{stack}/labels": ("labels{:08}.png", planes((64, 255))),
            f"{stack}/mitochondria": ("{:02}.png", planes((0, 255))),
        },
    )
    with h5py.File(folder / "isbi2012", "w") as file:
        file["raw"], file["labels/gt_segmentation"] = np.stack(planes((90, 160))), np.stack(planes((0, 7)))
    zipped(
        folder / "epfl",
        {
            f"Lucchi++/{part}_{kind}": (name, images)
            for part in ("Train", "Test")
            for kind, name, images in (
                ("In", "mask{:04}.png", planes((90, 160), first=3 * (part == "Test"))),
                ("Out", "{}.png", planes((0, 255), colour=True)),
            )
        },
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    checksums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    yield {name: (f"http://127.0.0.1:{server.server_port}/{name}", f"sha256:{sum}") for name, sum in checksums.items()}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["litemedsam", "vit_b", "vit_h"])
def test_the_plan_of_the_papers_experiment(tmp_path: Path, name: str) -> None:
    jobs = planned_jobs(snakemake(tmp_path, PAPER, "-n", config=f"backbone={{name: {name}}}"))
    stages = {rule: jobs[rule] for rule in ("raw", "convert", "boxes", "weights", "embed", "train", "refine", "score")}
    fan_out = {"train": 3 * 3, "refine": 3 * 3 * 5, "score": 3 * 3 * 5}
    assert stages == {"raw": 3, "convert": 3, "boxes": 3, "weights": 1, "embed": 3, **fan_out}


def test_isbi_2012_in_folds_is_six_data_sets(tmp_path: Path) -> None:
    folds = yaml.safe_load((ROOT / "experiments/overlays/folds.yaml").read_text())
    jobs = planned_jobs(snakemake(tmp_path, merged(PAPER, folds), "-n"))
    assert {rule: jobs[rule] for rule in ("raw", "embed", "train", "tables")} == {
        "raw": 6,
        "embed": 6,
        "train": 6 * 3,
        "tables": 1,
    }


def test_downloads_of_the_real_layouts_become_boxes(tmp_path: Path, hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    overlay = yaml.safe_load((ROOT / "experiments/paper.yaml").read_text()) | {"results": "results"}
    for name, dataset in overlay["datasets"].items():
        dataset["tile"] = None  # these slices are smaller than the real ones' tiles
        (file,) = dataset["source"]["files"]
        file["url"], file["checksum"] = hosts[name]
        for volume in dataset["volumes"]:
            volume["split"] = {part: SMALL[part] for part in volume["split"]}
    run = snakemake(tmp_path, overlay, "--cores", "2", *(f"results/boxes/{name}.csv" for name in hosts))
    assert run.returncode == 0, run.stderr[-4000:]
    for name in hosts:
        table = pd.read_csv(tmp_path / f"results/boxes/{name}.csv")
        corners = table[["x0", "y0", "x1", "y1"]].drop_duplicates().to_numpy().tolist()
        assert corners == [[5, 5, 40, 25], [50, 35, 90, 60]]
        assert table["split"].tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
        assert set(np.unique(Store.open(tmp_path / f"results/convert/{name}.zarr").pixels(0))) == {90, 160}
