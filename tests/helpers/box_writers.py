"""The same boxes in the files of each tool, written by the tool's own library where there is one here."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import roifile
from skimage.measure import regionprops_table

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


def write_labelme(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    shapes = [
        {"label": "cell", "points": [[x0, y0], [x1, y1]], "group_id": None, "shape_type": "rectangle", "flags": {}}
        for x0, y0, x1, y1 in boxes
    ]
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": shape[0],
        "imageWidth": shape[1],
    }
    return write(folder / "labelme.json", json.dumps(content))


def label_studio_results(shape: Shape, boxes: Sequence[Box]) -> list[dict[str, Any]]:
    height, width = shape
    return [
        {
            "id": f"r{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": 100 * x0 / width,
                "y": 100 * y0 / height,
                "width": 100 * (x1 - x0) / width,
                "height": 100 * (y1 - y0) / height,
                "rotation": 0,
                "rectanglelabels": ["cell"],
            },
        }
        for number, (x0, y0, x1, y1) in enumerate(boxes)
    ]


def write_label_studio(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    results = label_studio_results(shape, boxes)
    task = {
        "id": 1,
        "annotations": [{"id": 1, "was_cancelled": False, "result": results}],
        "predictions": [],
        "data": {"image": f"/data/upload/1/0a1b2c3d-{image}"},
    }
    return write(folder / "project-1.json", json.dumps([task]))


def label_studio_row(image: str, shape: Shape, boxes: Sequence[Box]) -> dict[str, Any]:
    sizes = {"original_width": shape[1], "original_height": shape[0]}
    regions = [{**result["value"], **sizes} for result in label_studio_results(shape, boxes)]
    names = {"image": f"/data/upload/1/0a1b2c3d-{image}", "id": 1, "label": regions}
    return {**names, "annotator": 1, "annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 12.5}


def write_label_studio_min(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    return write(folder / "project-1-min.json", json.dumps([label_studio_row(image, shape, boxes)]))


def write_label_studio_csv(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    row = label_studio_row(image, shape, boxes)
    return write_rows(folder / "project-1.csv", list(row), [list({**row, "label": json.dumps(row["label"])}.values())])


def via_regions(boxes: Sequence[Box]) -> list[dict[str, dict[str, object]]]:
    return [
        {
            "shape_attributes": {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0},
            "region_attributes": {"type": "cell"},
        }
        for x0, y0, x1, y1 in boxes
    ]


def write_via(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    entry = {"filename": image, "size": 123, "regions": via_regions(boxes), "file_attributes": {}}
    project = {"_via_settings": {}, "_via_img_metadata": {f"{image}123": entry}, "_via_attributes": {}}
    return write(folder / "via_project.json", json.dumps(project))


def write_via_csv(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    header = ["#filename", "file_size", "file_attributes", "region_count", "region_id"]
    rows = [
        (image, 123, "{}", len(boxes), number, *map(json.dumps, region.values()))
        for number, region in enumerate(via_regions(boxes))
    ]
    return write_rows(folder / "via.csv", [*header, "region_shape_attributes", "region_attributes"], rows)


def write_via_3(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    attribute = {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": 4, "desc": "", "options": {"0": "cell"}}
    regions = {
        f"1_{number}": {"vid": "1", "flg": 0, "z": [], "xy": [2, x0, y0, x1 - x0, y1 - y0], "av": {"1": "0"}}
        for number, (x0, y0, x1, y1) in enumerate(boxes)
    }
    project = {
        "project": {"pname": "mine", "data_format_version": "3.1.1", "vid_list": ["1"]},
        "config": {},
        "attribute": {"1": {**attribute, "default_option_id": ""}},
        "file": {"1": {"fid": 1, "fname": image, "type": 2, "loc": 1, "src": ""}},
        "metadata": regions,
        "view": {"1": {"fid_list": [1]}},
    }
    return write(folder / "via_project.json", json.dumps(project))


def write_cvat_video(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    tracks = "".join(
        f'<track id="{number}" label="cell" source="manual"><box frame="0" keyframe="1" outside="0" occluded="0" '
        f'xtl="{x0}.00" ytl="{y0}.00" xbr="{x1}.00" ybr="{y1}.00" z_order="0"></box></track>'
        for number, (x0, y0, x1, y1) in enumerate(boxes)
    )
    size = f"<original_size><width>{shape[1]}</width><height>{shape[0]}</height></original_size>"
    frames = "<size>1</size><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>0</stop_frame>"
    meta = f"<meta><task><id>1</id>{frames}<frame_filter></frame_filter>{size}</task></meta>"
    content = f"<annotations><version>1.1</version>{meta}{tracks}</annotations>"
    return write(folder / f"{Path(image).stem}.xml", content)


def write_cvat(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    shapes = "".join(
        f'<box label="cell" source="manual" occluded="0" xtl="{x0}.00" ytl="{y0}.00" xbr="{x1}.00" ybr="{y1}.00" '
        'z_order="0"></box>'
        for x0, y0, x1, y1 in boxes
    )
    entry = f'<image id="0" name="{image}" width="{shape[1]}" height="{shape[0]}">{shapes}</image>'
    head = '<?xml version="1.0" encoding="utf-8"?>'
    return write(folder / "annotations.xml", f"{head}<annotations><version>1.1</version>{entry}</annotations>")


def write_roboflow(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    predictions = [
        {
            "x": (x0 + x1) / 2,
            "y": (y0 + y1) / 2,
            "width": x1 - x0,
            "height": y1 - y0,
            "confidence": 0.9,
            "class": "cell",
        }
        for x0, y0, x1, y1 in boxes
    ]
    content = {"image": {"width": shape[1], "height": shape[0]}, "predictions": predictions}
    return write(folder / f"{Path(image).stem}.json", json.dumps(content))


def write_fiji_table(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    lines = [" ,Label,Area,Mean,X,Y,BX,BY,Width,Height"]
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        width, height = x1 - x0, y1 - y0
        centroid = f"{(x0 + x1) / 2},{(y0 + y1) / 2}"
        lines.append(f"{number},{image},{width * height},85.1,{centroid},{x0},{y0},{width},{height}")
    return write(folder / "Results.csv", "\n".join(lines) + "\n")


def write_regionprops(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    labels = np.zeros(shape, int)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = number
    table = regionprops_table(labels, properties=("label", "bbox"))
    columns = {name: values.tolist() for name, values in table.items()}
    rows = list(zip(*columns.values(), strict=True))
    return write_rows(folder / f"{Path(image).stem}.csv", list(columns), rows)


def write_cellprofiler(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    edges = ("Maximum_X", "Maximum_Y", "Minimum_X", "Minimum_Y")
    header = ["ImageNumber", "ObjectNumber", *(f"AreaShape_BoundingBox{edge}" for edge in edges)]
    rows = [(1, number, x1, y1, x0, y0) for number, (x0, y0, x1, y1) in enumerate(boxes, start=1)]
    return write_rows(folder / f"{Path(image).stem}.csv", header, rows)


def write_matlab(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    rows = [(100, x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    header = ["Area", *(f"BoundingBox_{number}" for number in range(1, 5))]
    return write_rows(folder / f"{Path(image).stem}.csv", header, rows)


def write_make_sense(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    rows = [("cell", x0, y0, x1 - x0, y1 - y0, image, shape[1], shape[0]) for x0, y0, x1, y1 in boxes]
    return write_rows(folder / "labels_my-project.csv", rows[0], rows[1:])


def write_yolov5(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    header = ["", "xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    rows = [(number, *map(float, box), 0.9, 0, "cell") for number, box in enumerate(boxes)]
    return write_rows(folder / f"{Path(image).stem}.csv", header, rows)


def write_labelme_web(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    def polygon(x0: int, y0: int, x1: int, y1: int) -> str:
        points = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        return "<polygon>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points) + "</polygon>"

    objects = "".join(f"<object><name>cell</name><deleted>0</deleted>{polygon(*box)}</object>" for box in boxes)
    size = f"<imagesize><nrows>{shape[0]}</nrows><ncols>{shape[1]}</ncols></imagesize>"
    content = f"<annotation><filename>{image}</filename><folder>em</folder>{size}{objects}</annotation>"
    return write(folder / f"{Path(image).stem}.xml", content)


def write_results_with_data_set(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    write_coco(folder, image, shape, boxes[:1])
    results = [
        {"image_id": 5, "category_id": 3, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.5} for x0, y0, x1, y1 in boxes
    ]
    return write(folder / "results.bbox.json", json.dumps(results)).parent


def write_polygons(folder: Path, image: str, shape: Shape, boxes: Sequence[Box]) -> Path:
    def line(x0: int, y0: int, x1: int, y1: int) -> str:
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, (y0 + y1) / 2)]
        return "0 " + " ".join(f"{x / shape[1]!r} {y / shape[0]!r}" for x, y in points)

    write(folder / "data.yaml", "names: {0: cell}\nnc: 1\n")
    lines = "\n".join(line(*box) for box in boxes)
    return write(folder / "labels" / f"{Path(image).stem}.txt", lines).parent


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_rows(path: Path, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> Path:
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
    "yolov5": write_yolov5,
    "labelme_web": write_labelme_web,
    "results_with_data_set": write_results_with_data_set,
    "polygons": write_polygons,
    "labelme": write_labelme,
    "label_studio": write_label_studio,
    "label_studio_min": write_label_studio_min,
    "label_studio_csv": write_label_studio_csv,
    "via": write_via,
    "via_csv": write_via_csv,
    "via_3": write_via_3,
    "cvat": write_cvat,
    "cvat_video": write_cvat_video,
    "roboflow": write_roboflow,
    "fiji_table": write_fiji_table,
    "regionprops": write_regionprops,
    "cellprofiler": write_cellprofiler,
    "matlab": write_matlab,
    "make_sense": write_make_sense,
}
