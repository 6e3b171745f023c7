"""The figures that the paper printed: its tables 1 to 3, by the names a config's `published` gives them."""

from pipeline_lib.evaluation.claims import PK, SAM, SAM_P, Figures, P, Row
from pipeline_lib.evaluation.statistics import ClusterSums, printed

LEVELS = (0, 10, 20, 30, 40)  # per cent


def _table(miou: dict[Row, tuple[float, ...]], iterations: tuple[float, ...]) -> Figures:
    by_level = {
        (row, level): ClusterSums.printed(value)
        for row, values in miou.items()
        for level, value in zip(LEVELS, values, strict=True)
    }
    counts = {level: ClusterSums.printed(count) for level, count in zip(LEVELS, iterations, strict=True)}
    return Figures(by_level, counts, estimate=printed)


PUBLISHED = {
    "em": _table(
        {
            SAM: (0.827, 0.822, 0.788, 0.710, 0.595),
            SAM_P: (0.827, 0.822, 0.787, 0.709, 0.594),
            P: (0.828, 0.823, 0.788, 0.714, 0.600),
            PK: (0.828, 0.823, 0.787, 0.734, 0.653),
        },
        iterations=(1, 1, 1.02, 2.42, 3.33),
    ),
    "isbi2012": _table(
        {
            SAM: (0.822, 0.810, 0.774, 0.699, 0.604),
            SAM_P: (0.825, 0.810, 0.777, 0.702, 0.606),
            P: (0.830, 0.820, 0.785, 0.714, 0.622),
            PK: (0.830, 0.817, 0.784, 0.727, 0.650),
        },
        iterations=(1, 1.01, 1.05, 2.13, 3.16),
    ),
    "epfl": _table(
        {
            SAM: (0.885, 0.875, 0.844, 0.772, 0.673),
            SAM_P: (0.885, 0.874, 0.844, 0.772, 0.673),
            P: (0.884, 0.874, 0.845, 0.779, 0.683),
            PK: (0.882, 0.867, 0.855, 0.824, 0.762),
        },
        iterations=(1.03, 1.37, 1.54, 2.72, 3.11),
    ),
}
