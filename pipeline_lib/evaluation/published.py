"""The rows and figures of the paper's tables 1 to 3, by the names that `published` takes in a configuration."""

from typing import NamedTuple


class Row(NamedTuple):
    """A row of the tables: a model, without or with iterated inference (K)."""

    model: str
    iterated: bool


SAM, SAM_P, P, PK = Row("sam", False), Row("sam_p", False), Row("proposed", False), Row("proposed", True)
PAPER_ROWS = {SAM: "SAM", SAM_P: "SAM + P", P: "proposed P", PK: "proposed P + K"}
PAPER_MODELS = {row.model for row in PAPER_ROWS}
LEVELS = (0, 10, 20, 30, 40)  # per cent


def _by_level(*figures: float) -> dict[int, float]:
    return dict(zip(LEVELS, figures, strict=True))


MIOU = {
    "em": {
        SAM: _by_level(0.827, 0.822, 0.788, 0.710, 0.595),
        SAM_P: _by_level(0.827, 0.822, 0.787, 0.709, 0.594),
        P: _by_level(0.828, 0.823, 0.788, 0.714, 0.600),
        PK: _by_level(0.828, 0.823, 0.787, 0.734, 0.653),
    },
    "isbi2012": {
        SAM: _by_level(0.822, 0.810, 0.774, 0.699, 0.604),
        SAM_P: _by_level(0.825, 0.810, 0.777, 0.702, 0.606),
        P: _by_level(0.830, 0.820, 0.785, 0.714, 0.622),
        PK: _by_level(0.830, 0.817, 0.784, 0.727, 0.650),
    },
    "epfl": {
        SAM: _by_level(0.885, 0.875, 0.844, 0.772, 0.673),
        SAM_P: _by_level(0.885, 0.874, 0.844, 0.772, 0.673),
        P: _by_level(0.884, 0.874, 0.845, 0.779, 0.683),
        PK: _by_level(0.882, 0.867, 0.855, 0.824, 0.762),
    },
}
ITERATIONS = {  # of proposed P + K
    "em": _by_level(1, 1, 1.02, 2.42, 3.33),
    "isbi2012": _by_level(1, 1.01, 1.05, 2.13, 3.16),
    "epfl": _by_level(1.03, 1.37, 1.54, 2.72, 3.11),
}
