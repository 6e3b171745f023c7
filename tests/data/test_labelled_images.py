"""Images are paired with their labels, labels have a meaning, and some images are held out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from helpers.running import ROOT

from pipeline_lib.data.labelled_images import held_out, label_rule, labelled_stacks, volumes_of
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import BinaryLabels, InstanceLabels
from pipeline_lib.settings.fine_tuning import FineTuneConfig


def write(folder: Path, *names: str, value: int = 1, shape: tuple[int, ...] = (12, 16), dtype: Any = np.uint8) -> str:
    """Write images with a rectangle of one value."""
    pixels = np.zeros(shape, dtype)
    pixels[..., 3:9, 2:7] = value
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, pixels, photometric="minisblack")
    return str(folder)


def pairs(tmp_path: Path, images: list[str], labels: list[str]) -> dict[str, str]:
    """Pair images and label images with these names."""
    stacks = labelled_stacks(
        write(tmp_path / "images", *images), [write(tmp_path / "labels", *labels)], None, tmp_path / "drawn"
    )
    return {stack.name: Path(stack.labels).name for stack in stacks}


def test_labels_are_paired_by_name_and_images_without_labels_take_no_part(tmp_path: Path) -> None:
    assert pairs(tmp_path, ["a.tif", "b.tif", "c.tif"], ["c.tiff", "a.tif"]) == {"a.tif": "a.tif", "c.tif": "c.tiff"}


def test_labels_with_other_names_are_paired_in_order_if_the_numbers_agree(tmp_path: Path) -> None:
    names = ["im2.tif", "im10.tif"]
    assert pairs(tmp_path, names, ["2_mask.tif", "10_mask.tif"]) == {"im2.tif": "2_mask.tif", "im10.tif": "10_mask.tif"}


def test_labels_in_folders_of_other_names_are_not_paired_in_order(tmp_path: Path) -> None:
    """In alphabetical order, A_treated would come first and be paired with ctrl."""
    with pytest.raises(DataError, match=r"no image in .* has the name of"):
        pairs(tmp_path, ["ctrl/img_1.tif", "treated/img_1.tif"], ["A_treated/mask_1.tif", "B_ctrl/mask_1.tif"])
    names = ["ctrl/img_1.tif", "treated/img_1.tif"]
    assert len(pairs(tmp_path / "same", names, ["ctrl/mask_1.tif", "treated/mask_1.tif"])) == 2


@pytest.mark.parametrize("labels", [["2_mask.tif", "11_mask.tif"], ["2_mask.tif"], ["x.tif", "y.tif"]])
def test_a_label_image_without_an_image_is_an_error(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(DataError, match=rf"labels: .* no image in .*images has the name of {labels[0]}"):
        pairs(tmp_path, ["im2.tif", "im10.tif"], labels)


def test_labels_without_objects_take_no_part(tmp_path: Path) -> None:
    write(tmp_path / "labels", "b.tif", value=0)
    assert list(pairs(tmp_path, ["a.tif", "b.tif"], ["a.tif"])) == ["a.tif"]
    write(tmp_path / "labels", "a.tif", value=0)
    with pytest.raises(DataError, match="expected labels with objects, found only 0 in 2 label images"):
        labelled_stacks(f"{tmp_path}/images", [f"{tmp_path}/labels"], None, tmp_path)


def test_one_value_besides_background_is_binary(tmp_path: Path) -> None:
    images = write(tmp_path / "images", "a.tif", "b.tif")
    labels = [write(tmp_path / "labels", "a.tif", "b.tif", value=255)]
    stacks = labelled_stacks(images, labels, None, tmp_path)
    assert label_rule(stacks, None) == BinaryLabels(kind="binary", foreground=255)
    assert label_rule(stacks, "instances") == InstanceLabels(kind="instances")
    write(tmp_path / "labels", "b.tif", value=7)
    stacks = labelled_stacks(images, labels, None, tmp_path)
    assert label_rule(stacks, None) == InstanceLabels(kind="instances")
    with pytest.raises(DataError, match=r"expected binary labels, with one value besides 0; found 2 \(7, 255, …\)"):
        label_rule(stacks, "binary")


def test_held_out_images_are_evenly_spaced_and_never_all() -> None:
    assert held_out(8, 0.25) == [2, 6]
    assert held_out(4, 0.25) == [2]
    assert held_out(2, 0.25) == [1]
    assert held_out(2, 0.99) == [1]
    assert all(len(set(held_out(count, 0.5))) == len(held_out(count, 0.5)) for count in range(2, 40))


def test_the_last_slices_of_a_single_stack_are_held_out(tmp_path: Path) -> None:
    images = f"{write(tmp_path / 'images', 's.tif', shape=(8, 12, 16))}/s.tif"
    labels = f"{write(tmp_path / 'labels', 's.tif', shape=(8, 12, 16))}/s.tif"
    (volume,) = volumes_of(labelled_stacks(images, [labels], None, tmp_path), 0.25)
    assert volume.split.ranges() == {"train": (0, 6), "validation": (6, 8)}


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    images, labels = write(tmp_path / "images", "a.tif"), write(tmp_path / "labels", "a.tif")
    with pytest.raises(DataError, match=r"a.tif: expected at least two images or slices with labelled objects"):
        volumes_of(labelled_stacks(images, [labels], None, tmp_path), 0.25)


def test_deep_images_need_a_range(tmp_path: Path) -> None:
    images = write(tmp_path / "images", "a.tif", dtype=np.uint16)
    labels = [write(tmp_path / "labels", "a.tif")]
    with pytest.raises(DataError, match=r"a.tif: expected an 8-bit image, found uint16\. Choose .* with --range"):
        labelled_stacks(images, labels, None, tmp_path)
    assert len(labelled_stacks(images, labels, (0.0, 1.0), tmp_path)) == 1


@pytest.mark.parametrize(("tiles", "epochs"), [(1, 60), (4, 60), (9, 54), (40, 16), (160, 4), (5000, 4)])
def test_the_number_of_epochs_makes_about_the_same_number_of_steps(tiles: int, epochs: int) -> None:
    assert FineTuneConfig().epochs_for(tiles) == epochs
    assert FineTuneConfig(epochs=3).epochs_for(tiles) == 3


def test_boxes_are_as_loose_as_for_the_shipped_model() -> None:
    ready = yaml.safe_load((ROOT / "experiments/ready.yaml").read_text())
    config, model = FineTuneConfig(), ready["models"]["ready"]
    assert config.mix.model_dump(exclude_defaults=True) == {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in ready["train"]["mixes"]["ready"].items()
    }
    assert list(config.trains) == model["trains"]
    for key in ("tiles_per_step", "objects_per_tile", "mask_extent"):
        assert getattr(config, key) == model["train"][key]
