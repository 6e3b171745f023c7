"""Read GeoJSON of QuPath: a file with the name of its image, and a feature for each annotation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds

AREAS = {"Polygon", "MultiPolygon"}  # geometries that enclose an area


def _matches(file: BoxFile) -> bool:
    if file.json == []:
        return file.path.suffix.lower() == ".geojson"  # an empty .json file is a list of COCO results
    kind = file.json.get("type") if isinstance(file.json, dict) else None
    features = {"geometry", "features"} & (file.entry_keys | file.json_keys)
    return kind in ("Feature", "FeatureCollection") or bool(features)


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each feature. The file holds a collection, a list, or one feature.

    QuPath writes `plane` for all slices and time points but the first. A file without any `plane` names no slices.
    """
    content, image = file.json, images.of_file(file.path)
    features = content if isinstance(content, list) else content.get("features", [content])
    geometries = [feature["geometry"] or {"type": "feature without geometry"} for feature in features]
    has_planes = any("plane" in geometry for geometry in geometries)
    for index, (feature, geometry) in enumerate(zip(features, geometries, strict=True)):
        properties, kind = feature.get("properties") or {}, geometry.get("type", "Polygon")
        yield BoxRecord(
            image=image,
            **bounds(_points(geometry["coordinates"] if kind in AREAS else [])),
            where=f"{file.path}: feature {index}",
            slice=_slice(geometry.get("plane", {})) if has_planes else None,
            name=str(properties.get("name", "")),
            label=str((properties.get("classification") or {}).get("name", "")),
            skip="" if kind in AREAS else f"a {kind} encloses no area",
        )


def _slice(plane: Mapping[str, Any]) -> int:
    """Return the slice of a plane: its z, or its t in a time series. The other one is 0."""
    return max(int(plane.get("z", 0)), int(plane.get("t", 0)))


def _points(coordinates: Any) -> Iterator[Sequence[float]]:
    """Yield the points (x, y) of nested lists."""
    if coordinates and not isinstance(coordinates[0], list):
        yield coordinates[:2]
        return
    for part in coordinates:
        yield from _points(part)


GEOJSON = BoxFormat(
    name="geojson",
    title="GeoJSON",
    program="QuPath",
    suffixes=(".geojson", ".json"),
    content="a GeoJSON feature, a FeatureCollection, or a list of features",
    matches=_matches,
    outline=BoxFile.json_outline,
    read=_read,
)
