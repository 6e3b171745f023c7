"""The same boxes in the files of each tool, written by the tool's own library where there is one here."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import roifile

from helpers.napari import in_napari

Box = tuple[int, int, int, int]  # XYXY half-open, pixels
Shape = tuple[int, int]  # height, width


def write_coco(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    content = {
        "images": [{"id": 5, "file_name": image, "height": shape[0], "width": shape[1]}],
        "categories": [{"id": 3, "name": "cell"}],
        "annotations": [
            {"id": number, "image_id": 5, "category_id": 3, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for number, (x0, y0, x1, y1) in enumerate(boxes)
        ],
    }
    return write(folder / "boxes.json", json.dumps(content))


def write_results(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    results = [
        {"image_id": Path(image).stem, "category_id": 3, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.5}
        for x0, y0, x1, y1 in boxes
    ]
    return write(folder / "results.json", json.dumps(results))


def write_yolo(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    height, width = shape
    lines = [
        f"0 {(x0 + x1) / 2 / width!r} {(y0 + y1) / 2 / height!r} {(x1 - x0) / width!r} {(y1 - y0) / height!r}"
        for x0, y0, x1, y1 in boxes
    ]
    write(folder / "classes.txt", "cell\n")
    return write(folder / f"{Path(image).stem}.txt", "\n".join(lines) + "\n").parent


def write_voc(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    objects = "".join(
        f"<object><name>cell</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    return write(folder / "any.xml", f"<annotation><filename>{image}</filename>{objects}</annotation>")


def write_xyxy(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    return write_rows(folder / "xyxy.csv", ["image", "xmin", "ymin", "xmax", "ymax"], [(image, *box) for box in boxes])


def write_xywh(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    rows = [(image, x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    return write_rows(folder / "xywh.csv", ["Image", "X", "Y", "Width", "Height"], rows)


def write_fiji(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{Path(image).stem}.zip"
    rois = []
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=x0, top=y0, right=x1, bottom=y1)
        roi.name = f"cell {number}"
        rois.append(roi)
    roifile.roiwrite(path, rois)
    return path


def write_napari(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{Path(image).stem}.csv"
    in_napari(WRITE_SHAPES, {"path": str(path), "boxes": list(boxes)})
    return path


WRITE_SHAPES = """
import numpy as np
from napari.layers import Shapes
from napari_builtins.io import napari_write_shapes
rectangles = [np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]]) - 0.5 for x0, y0, x1, y1 in given["boxes"]]
layer = Shapes(rectangles, shape_type="rectangle")
napari_write_shapes(given["path"], layer.data, layer.as_layer_data_tuple()[1])
"""


def write_geojson(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": "cell"}},
        }
        for x0, y0, x1, y1 in boxes
    ]
    content = {"type": "FeatureCollection", "features": features}
    return write(folder / f"{Path(image).stem}.geojson", json.dumps(content))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


WRITERS: dict[str, Callable[[Path, str, Shape, Sequence[Box]], Path]] = {
    "coco": write_coco,
    "results": write_results,
    "yolo": write_yolo,
    "voc": write_voc,
    "xyxy": write_xyxy,
    "xywh": write_xywh,
    "fiji": write_fiji,
    "napari": write_napari,
    "geojson": write_geojson,
}
