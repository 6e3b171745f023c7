"""Two generated tiles to train on, and a trainer."""

from copy import deepcopy

import pytest
from helpers.training import new_run

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.training.sampling import LabelledTiles


@pytest.fixture(scope="module")
def source(stages):
    tiles = Store.open(stages["store"])
    embeddings = Embeddings.open(stages["embeddings"], stages["store"], stages["weights"])
    return LabelledTiles(tiles, embeddings, Frame(tiles.tile_shape, Backbone.read(stages["weights"]).image_size))


@pytest.fixture(scope="module")
def table(stages):
    return read_boxes(stages["boxes"])


@pytest.fixture
def run(micro, tmp_path):
    return new_run(deepcopy(micro), "proposed", tmp_path)
