"""The shapes and numbers of each tool have their meaning in it: regions, classes, frames and slices."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
from helpers.box_readers import BOX, LABELME, boxes, coco, read, skipped
from helpers.box_writers import WRITERS, write
from pycocotools import mask as coco_mask

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError

POLYGON = [3, 5, 20, 5, 20, 60]
WHOLE = np.zeros((60, 90), np.uint8, order="F")
WHOLE[5:60, 3:20] = 1
RUNS = coco_mask.encode(WHOLE)


@pytest.mark.parametrize(
    "segmentation",
    [
        [POLYGON],
        [[*POLYGON[:4], 4, 30], [20, 60, 10, 60, 10, 50]],
        {"size": [60, 90], "counts": RUNS["counts"].decode()},
    ],
    ids=["polygon", "two polygons", "run lengths"],
)
def test_a_coco_annotation_without_a_box_has_the_bounds_of_its_outline(tmp_path: Path, segmentation: Any) -> None:
    entry = [{"id": 1, "file_name": "a.png"}]
    for box in [], [0, 0, 0, 0]:
        assert boxes(coco(tmp_path, entry, {"bbox": box, "segmentation": segmentation})) == [BOX]


def test_run_lengths_of_another_size_are_refused(tmp_path: Path) -> None:
    runs = {"size": [60, 80], "counts": RUNS["counts"].decode()}
    path = coco(tmp_path, [{"id": 1, "file_name": "a.png"}], {"bbox": [], "segmentation": runs})
    with pytest.raises(DataError, match="entry 0: the run lengths are of 80 × 60 pixels"):
        read(path)


def test_what_is_no_object_is_skipped_with_its_reason(tmp_path: Path) -> None:
    crowd = coco(tmp_path, [{"id": 1, "file_name": "a.png"}], {"iscrowd": 1})
    assert skipped(read(crowd)) == ["a crowd (iscrowd), which is not one object"]
    shapes = [
        {"label": "cell", "shape_type": "circle", "points": [[30, 30], [34, 33]]},
        {"label": "tip", "shape_type": "point", "points": [[3, 4]]},
        {"label": "edge", "shape_type": "linestrip", "points": [[3, 4], [30, 40]]},
    ]
    labelme = read(write(tmp_path / "a.json", json.dumps({**LABELME, "imageWidth": 90, "shapes": shapes})))
    assert labelme[XYXY].to_numpy()[0].tolist() == [25, 25, 35, 35]
    assert [reason[:25] for reason in skipped(labelme)] == [
        "",
        "a shape of the type point",
        "a shape of the type lines",
    ]
    inner = (
        '<ellipse label="cell" cx="30" cy="30" rx="10" ry="5" rotation="90"/><points label="tip" points="3,4"/>'
        '<box label="cell" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90"/><mask label="c" left="1" top="2" '
        'width="30" height="40" rle="1"/><polygon label="c" points="3,5;20,5;20,60"/><tag label="blurred"/>'
    )
    cvat = read(write(tmp_path / "a.xml", f'<annotations><image id="0" name="a.png">{inner}</image></annotations>'))
    assert [reason[:26] for reason in skipped(cvat)] == ["", "a shape of the type points", "", "", ""]
    expected = [[25, 20, 35, 40], [np.nan] * 4, [15, 15, 25, 35], [1, 2, 31, 42], BOX]
    np.testing.assert_allclose(cvat[XYXY].to_numpy(), expected, atol=1e-9)


def test_regions_of_fiji_are_read_by_type(tmp_path: Path) -> None:
    rois = [
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=3, top=5, right=20, bottom=60, name="cell", position=1),
        roifile.ImagejRoi.frompoints([[4, 5], [6, 7]]),
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=3, top=5, right=20, bottom=60, t_position=2),
    ]
    rois[1].roitype = roifile.ROI_TYPE.POINT
    roifile.roiwrite(tmp_path / "stack.zip", rois)
    table = read(tmp_path / "stack.zip")
    assert [reason[:28] for reason in skipped(table)] == ["", "a region of the type POINT e", ""]
    assert table["slice"].tolist() == [0, 0, 1]


VIA_SHAPES = [
    ({"name": "circle", "cx": 30, "cy": 30, "r": 5}, [25, 25, 35, 35]),
    ({"name": "ellipse", "cx": 30, "cy": 30, "rx": 10, "ry": 5, "theta": np.pi / 2}, [25, 20, 35, 40]),
    ({"name": "polygon", "all_points_x": [3, 20, 20], "all_points_y": [5, 5, 60]}, BOX),
    ({"name": "point", "cx": 3, "cy": 4}, None),
]


@pytest.mark.parametrize(("shape", "expected"), VIA_SHAPES)
def test_regions_of_via(tmp_path: Path, shape: Mapping[str, Any], expected: list[float] | None) -> None:
    region = {"shape_attributes": shape, "region_attributes": {"class": "cell"}}
    content = {"a.png1": {"filename": "a.png", "size": 1, "regions": {"0": region}, "file_attributes": {}}}
    table = read(write(tmp_path / "a.json", json.dumps(content)))
    assert (skipped(table) == [""]) == (expected is not None)
    if expected:
        np.testing.assert_allclose(table[XYXY].to_numpy()[0], expected, atol=1e-9)


def task(*values: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    sides = {"original_width": 90, "original_height": 60}
    results = [{"id": str(number), "type": "x", **sides, "value": value} for number, value in enumerate(values)]
    return [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": results}], **more}]


def test_regions_of_label_studio(tmp_path: Path) -> None:
    rectangle = {"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90, "rectanglelabels": ["cell"]}
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 0}
    polygon = {"points": [[10, 10], [20, 10], [20, 50]]}
    brush = {"format": "rle", "rle": [1, 2], "brushlabels": ["cell"]}
    table = read(write(tmp_path / "a.json", json.dumps(task(rectangle, ellipse, polygon, brush))))
    expected = [[39, 30, 45, 39], [36, 24, 54, 36], [9, 6, 18, 30], [np.nan] * 4]
    np.testing.assert_allclose(table[XYXY].to_numpy(), expected, atol=1e-9)
    assert [bool(reason) for reason in skipped(table)] == [False, False, False, True]
    two = write(tmp_path / "two.json", json.dumps(task(ellipse, annotations=[{"result": []}, {"result": []}])))
    with pytest.raises(DataError, match=r"two\.json: task 0: expected one annotation of the task, found 2"):
        read(two)


def test_a_region_of_label_studio_with_separate_tags_is_one_box(tmp_path: Path) -> None:
    place = {"x": 10, "y": 10, "width": 50, "height": 50}
    (content,) = task(place, {**place, "labels": ["cell"]})
    for result in content["annotations"][0]["result"]:
        result["id"] = "same"
    (row,) = read(write(tmp_path / "a.json", json.dumps([content]))).to_dict("records")
    assert row["label"] == "cell"


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ([(4, 6, 20, 60), (1, 1, 9, 9)], BOX),
        ([(3, 5, 20, 60), (0, 1, 9, 9)], BOX),
        ([(3, 5, 20, 60), (1.5, 1, 9, 9)], BOX),
    ],
    ids=["counted from 1", "counted from 0, as one lies at 0", "from 0, as one has a fraction"],
)
def test_corners_of_voc_are_counted_as_the_file_shows(
    tmp_path: Path, corners: list[tuple[float, ...]], expected: list[float]
) -> None:
    edges = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><bndbox>{''.join(f'<{e}>{v}</{e}>' for e, v in zip(edges, box, strict=True))}</bndbox></object>"
        for box in corners
    )
    path = write(tmp_path / "a.xml", f"<annotation><filename>a.png</filename>{objects}</annotation>")
    assert boxes(path)[0] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.1 0.1 0.2 0.1 0.2 0.5 0.1 0.5", [9, 6, 18, 30]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.5 0.1 0.5 0.75", [9, 6, 18, 30]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.5", [9, 6, 18, 30]),
    ],
    ids=["an oriented box", "with a score", "a triangle"],
)
def test_points_of_yolo_become_the_box_around_them(tmp_path: Path, line: str, expected: list[float]) -> None:
    table = read(write(tmp_path / "a.txt", line))
    np.testing.assert_allclose(table[XYXY].to_numpy()[0], expected)
    assert table["score"].notna().tolist() == [line.endswith("0.75")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.1 0.1 7", "found 7, which seems to be the number of a track"),
        ("0 0.5 0.5 0.1 0.1 0.9 1", "a box with a score and the number of a track"),
        ("0 0.5 0.5 0.1 0.1 " + "0.5 0.5 2 " * 17, "a box with keypoints"),
        ("0 0.5 0.5 0.1 0.1 " + "0.5 0.5 1 0.4 0.4 0 ", "a box with keypoints"),
    ],
)
def test_lines_of_yolo_that_are_no_outlines_are_refused(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt:1: .*{says}"):
        read(write(tmp_path / "a.txt", line))


POSES = ["0 0.5 0.5 0.1 0.1 0.48 0.5 0.52 0.5 0.5 0.53", "0 0.2 0.6 0.1 0.2 0.2 0.55 0 0 0.21 0.65"]
POLYGONS = ["0 0.5 0.5 0.52 0.5 0.52 0.54 0.5 0.54 0.49 0.52", "0 0.2 0.6 0.25 0.6 0.25 0.65 0.22 0.66 0.2 0.62"]


@pytest.mark.parametrize(
    ("lines", "record", "refused"),
    [(POSES, "", True), (POLYGONS, "", False), (POLYGONS, "names: [cell]\nkpt_shape: [3, 2]\n", True)],
    ids=["poses", "polygons", "said by the data set"],
)
def test_keypoints_of_two_numbers_are_no_polygons(
    tmp_path: Path, lines: Sequence[str], record: str, refused: bool
) -> None:
    path = write(tmp_path / "a.txt", "\n".join(lines))
    if record:
        write(tmp_path / "data.yaml", record)
    if not refused:
        assert len(read(path)) == 2
        return
    with pytest.raises(DataError, match=r"a\.txt: .*found boxes with keypoints \(poses\)\. Export the boxes alone"):
        read(path)


REGIONS_3: list[tuple[list[float], list[float] | None]] = [
    ([2, 3, 5, 17, 55], BOX),
    ([3, 20, 30, 10], [10, 20, 30, 40]),
    ([4, 20, 30, 5, 10], [15, 20, 25, 40]),
    ([7, 3, 5, 20, 5, 20, 60], BOX),
    ([8, 3, 9, 9, 5, 20, 9, 9, 60], BOX),
    ([1, 3, 5], None),
    ([5, 3, 5, 9, 9], None),
    ([9, 3, 5, 9, 9, 4, 8], None),
]


@pytest.mark.parametrize(("region", "expected"), REGIONS_3)
def test_regions_of_via_3(tmp_path: Path, region: list[float], expected: list[float] | None) -> None:
    project = json.loads(WRITERS["via_3"](tmp_path, "a.png", (60, 90), [(0, 0, 1, 1)]).read_text())
    project["metadata"]["1_0"]["xy"] = region
    (row,) = read(write(tmp_path / "a.json", json.dumps(project))).to_dict("records")
    if expected:
        assert [row[edge] for edge in XYXY] == expected
    assert bool(row["skip"]) == (expected is None)


@pytest.mark.parametrize("change", [{"fid_list": [1, 1]}, {"type": 4}])
def test_a_view_of_via_3_is_one_image(tmp_path: Path, change: Mapping[str, Any]) -> None:
    project = json.loads(WRITERS["via_3"](tmp_path, "a.png", (60, 90), [(0, 0, 1, 1)]).read_text())
    (project["view"] if "fid_list" in change else project["file"])["1"] |= change
    with pytest.raises(DataError, match=r"a\.json: view 0: expected a view of one image; export"):
        read(write(tmp_path / "a.json", json.dumps(project)))


def video(folder: Path, first: int = 0, kept: str = "", frames: int = 3) -> Path:
    shapes = '<box frame="1" keyframe="1" outside="0" xtl="3" ytl="5" xbr="20" ybr="60"/><box frame="2" outside="1"/>'
    task = f"<size>{frames}</size><start_frame>{first}</start_frame><frame_filter>{kept}</frame_filter>"
    track = f'<track id="7" label="cell">{shapes}</track>'
    return write(folder / "stack.xml", f"<annotations><meta><task>{task}</task></meta>{track}</annotations>")


def test_frames_of_a_video_of_cvat_are_slices(tmp_path: Path) -> None:
    table = read(video(tmp_path))
    assert table[["image", "slice", "track"]].to_numpy().tolist() == [["stack.tif", 1, "7"]]
    assert table[XYXY].to_numpy()[0].tolist() == BOX
    assert table["skip"].tolist() == [""]  # the object is not in frame 2


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"first": 10}, "the task begins at frame 10"),
        ({"kept": "step=5"}, "keeps the frames step=5"),
        ({"frames": 4}, r"expected as many frames as stack\.tif has slices, 3; found 4"),
    ],
)
def test_frames_that_are_not_the_slices_are_refused(tmp_path: Path, task: Mapping[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=rf"stack\.xml: .*{says}"):
        read(video(tmp_path, **task))
    with pytest.raises(DataError, match=r"stack\.xml: the frames of a video must be the slices of one stack"):
        read(video(tmp_path), images=Images({"1.png": (1, 9, 9), "2.png": (1, 9, 9)}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "nucleus\ncell\n"),
        ("../obj.names", "nucleus\ncell"),
        ("../../data.yaml", "names: [nucleus, cell]\n"),
        ("../../dataset.yaml", "names:\n  0: nucleus\n  1: cell\n"),
    ],
)
def test_names_of_classes_are_found_in_the_usual_places(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.1 0.1\n")
    write((tmp_path / "labels/train" / name).resolve(), text)
    assert read(tmp_path / "labels/train")["label"].tolist() == ["cell"]


def test_damaged_names_of_classes_are_named(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "names: 3\n")
    with pytest.raises(DataError, match=r"data\.yaml: expected the key `names`, a list of classes"):
        read(write(tmp_path / "a.txt", "1 0.5 0.5 0.1 0.1\n"))


@pytest.mark.parametrize(
    ("planes", "slices"),
    [
        ([{"c": -1, "z": 2, "t": 0}, None], [2, 0]),
        ([{"c": -1, "z": 0, "t": 1}, {"c": -1, "z": 0, "t": 2}], [1, 2]),
    ],
)
def test_planes_of_qupath_are_slices(tmp_path: Path, planes: list[dict[str, int] | None], slices: list[int]) -> None:
    outline = {"type": "Polygon", "coordinates": [[[3, 5], [20, 5], [20, 60], [3, 5]]]}
    features = [{"type": "Feature", "geometry": {**outline, **({"plane": plane} if plane else {})}} for plane in planes]
    assert read(write(tmp_path / "stack.geojson", json.dumps(features)))["slice"].tolist() == slices
    with pytest.raises(DataError, match=r"feature 0: expected the number of a slice, because stack\.tif has 3"):
        read(write(tmp_path / "stack.geojson", json.dumps([{"type": "Feature", "geometry": outline}])))


def test_a_feature_without_geometry_is_skipped_with_its_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", json.dumps([{"type": "Feature", "geometry": None, "properties": {}}]))
    assert skipped(read(path)) == ["a feature without geometry encloses no area"]


def test_addresses_of_label_studio_can_be_encoded(tmp_path: Path) -> None:
    content = task({"x": 10, "y": 10, "width": 50, "height": 50})
    for address in "/data/local-files/?d=set/a%20b.png", "/data/upload/1/0a1b2c3d-a%20b.png":
        content[0]["data"]["image"] = address
        path = write(tmp_path / "boxes.json", json.dumps(content))
        assert read(path, images=Images({"a b.png": (1, 60, 90), "c.png": (1, 60, 90)}))["image"].tolist() == [
            "a b.png"
        ]


def test_geojson_may_be_called_json_and_has_lines(tmp_path: Path) -> None:
    outline = {"type": "Polygon", "coordinates": [[[3, 5], [20, 5], [20, 60], [3, 5]]]}
    line = {"type": "LineString", "coordinates": [[3, 5], [20, 60]]}
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in (outline, line)]
    table = read(write(tmp_path / "a.json", json.dumps(features)))
    assert table[XYXY].to_numpy().tolist()[0] == BOX
    assert skipped(table) == ["", "a LineString encloses no area"]
