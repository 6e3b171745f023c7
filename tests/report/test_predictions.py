"""What the page of a segmented set calls objects, and says about them."""

import pandas as pd
import pytest

from pipeline_lib.config.defaults import segmentation
from pipeline_lib.report.predictions import kept_when, object_titles


@pytest.mark.parametrize(
    ("labels", "titles"),
    [
        (["0", "0"], ["object 1", "object 2"]),
        (["", ""], ["object 1", "object 2"]),
        (["0", "1"], ["object 1, class 0", "object 2, class 1"]),
        (["", "axon"], ["object 1", "object 2, class axon"]),
    ],
)
def test_a_title_has_the_class_if_there_are_several(labels: list[str], titles: list[str]) -> None:
    assert object_titles(pd.Series(labels, pd.RangeIndex(1, 3))) == titles


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({}, "An iteration is kept only if its predicted IoU exceeds that of the first mask by more than .15."),
        ({"lead": 0.0}, "An iteration is kept only if its predicted IoU exceeds that of the first mask."),
        ({"select": "last"}, "The last prediction with a mask is kept."),
    ],
)
def test_the_page_says_which_prediction_is_kept(choice: dict[str, float | str], sentence: str) -> None:
    assert kept_when(segmentation({"segment": {"refine": choice}})[1]) == sentence
