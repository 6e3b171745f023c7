"""Stage tables on hand-made scores."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.stages import run_stage

from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.claims import CLAIMS
from pipeline_lib.evaluation.published import LEVELS
from pipeline_lib.stages.tables import tables

FIRST = {
    "sam": (0.80, 0.79, 0.75, 0.70, 0.60),
    "sam_p": (0.80, 0.79, 0.75, 0.70, 0.60),
    "proposed": (0.80, 0.79, 0.76, 0.71, 0.61),
    "eager": (0.80, 0.79, 0.76, 0.71, 0.61),
    "patient": (0.80, 0.79, 0.76, 0.71, 0.61),
}
ITERATED = (0.80, 0.79, 0.76, 0.75, 0.70)
ITERATIONS = (2, 2, 2, 3, 4)
EXPERIMENT = {
    "datasets": {"cells": {"title": "Cells of ours", "published": None, "parts": ["cells"]}},
    "models": {
        "sam": {"title": "SAM", "prompt_tuned": False},
        "sam_p": {"title": "SAM, corner embeddings", "prompt_tuned": True},
        "proposed": {"title": "proposed", "prompt_tuned": True},
    },
    "levels": list(LEVELS),
    "seeds": [0],
    "split": "test",
    "objects": None,
    "claims": {"max_loss": 0.01, "min_gain_ratio": 2.0, "max_time_ratio": 1.5},
    "miou": "object",
}


def write_json(path: Path, content: dict[str, float]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def write_scores(path: Path, first: float, iterated: float, iterations: int) -> str:
    """Four objects in two images, spread evenly about the means; the last takes an iteration more, the first less."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spread = [-0.05, -0.01, 0.01, 0.05]
    table = pd.DataFrame(
        {"tile": [0, 0, 1, 1], "slice": [0, 0, 1, 1], "object": [1, 2, 1, 2], "area": [90, 80, 70, 100]}
    )
    table["iou"] = [first + by for by in spread]
    table["iou_iterated"] = [iterated + by for by in spread]
    table["foreground_iou"], table["foreground_iou_iterated"] = first, iterated
    table["iterations"] = [iterations - 1, iterations, iterations, iterations + 1]
    table.to_csv(path, index=False, float_format="%.6f")
    return str(path)


def run(
    folder: Path, experiment: Any = EXPERIMENT, datasets: tuple[str, ...] = ("cells",), seeds: tuple[int, ...] = (0,)
) -> tuple[str, pd.DataFrame]:
    """Markdown and CSV of an experiment whose encoder takes 0.4 s an image, first masks 0.1 s, repeated ones 0.2 s.

    Each seed after 0 adds 0.02 to every IoU.
    """
    scores, timings = [], []
    for dataset, model, seed, (index, level) in product(
        datasets, experiment["models"], seeds, enumerate(experiment["levels"])
    ):
        cell = Path(dataset) / model / str(seed) / str(level)
        means = FIRST[model][index] + 0.02 * seed, ITERATED[index] + 0.02 * seed, ITERATIONS[index]
        scores.append(write_scores(folder / "score" / cell.with_suffix(".csv"), *means))
        seconds = {"first_seconds": 0.2, "repeated_seconds": 0.4, "repeated_predictions": 8}
        timings.append(write_json(folder / "refine" / cell.with_suffix(".json"), {"tiles": 2, "objects": 4, **seconds}))
    times = {"tiles": 10, "seconds_per_tile": 0.4}
    embed = [write_json(folder / "embed" / f"{dataset}.json", times) for dataset in datasets]
    markdown, csv = folder / "tables.md", folder / "tables.csv"
    run_stage(
        tables,
        audit="passed",
        scores=scores,
        timings=timings,
        embed_timings=embed,
        markdown=str(markdown),
        csv=str(csv),
        differences=str(folder / "differences.csv"),
        claims=str(folder / "claims.csv"),
        experiment=experiment | {"seeds": list(seeds)},
    )
    return markdown.read_text(encoding="utf-8"), pd.read_csv(csv)


def table_of(markdown: str) -> list[str]:
    """The lines of the first data set's table."""
    return next(part for part in markdown.split("\n\n") if part.startswith("|")).splitlines()


def test_the_csv_has_a_line_per_model_level_and_kind_of_inference(tmp_path: Path) -> None:
    _, csv = run(tmp_path)
    assert len(csv) == 3 * 5 * 2
    line = csv[(csv.model == "proposed") & csv.iterated & (csv.level == 40)].iloc[0]
    assert line[["dataset", "miou", "mean_iterations", "objects", "tiles", "seeds"]].tolist() == [
        "cells",
        0.70,
        4.0,
        4,
        2,
        1,
    ]
    assert line[["miou_low", "miou_high"]].tolist() == [0.67, 0.73]  # two images: from the one's mean to the other's
    assert np.isnan(line["miou_sd"])


def test_the_csvs_are_written_as_promised(tmp_path: Path) -> None:
    run(tmp_path)
    lines = (tmp_path / "tables.csv").read_text().split("\n")
    assert lines[:2] == [
        "dataset,model,iterated,level,miou,miou_low,miou_high,miou_sd,kept,kept_low,kept_high,kept_sd,mean_iterations,"
        "mean_iterations_low,mean_iterations_high,mean_iterations_sd,objects,tiles,slices,seeds",
        "cells,sam,false,0,0.800000,0.770000,0.830000,,,,,,,,,,4,2,2,1",
    ]
    lines = (tmp_path / "differences.csv").read_text().split("\n")
    assert lines[0] == "dataset,model,iterated,over_model,over_iterated,level,gain,gain_low,gain_high,gain_sd,p"
    assert "cells,proposed,true,proposed,false,40,0.090000,0.090000,0.090000,,0.500000" in lines
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims.columns.tolist() == ["dataset", "claim", "verdict", "because"]
    assert claims["claim"].str[:2].tolist() == ["C1", "C2", "C3", "C4", "C5"]


def test_rows_are_compared_that_differ_in_one_thing(tmp_path: Path) -> None:
    run(tmp_path)
    pairs = pd.read_csv(tmp_path / "differences.csv").query("level == 40")
    assert len(pairs) == 3 + 3 * 2  # K of each model; two models, without K and with it
    differs = (pairs.model != pairs.over_model).astype(int) + (pairs.iterated != pairs.over_iterated)
    assert set(differs) == {1}


def test_an_ablation_has_its_rows_and_iterations_in_order_and_is_compared_with_the_papers(tmp_path: Path) -> None:
    titles = {"eager": "proposed, τ 0.01", "proposed": "proposed, τ 0.05", "patient": "proposed, τ 0.1"}
    models = {name: {"title": title, "prompt_tuned": True} for name, title in titles.items()}
    markdown, _ = run(tmp_path, EXPERIMENT | {"levels": [0, 10], "models": models})
    assert [line.split(" | ")[0] for line in table_of(markdown)[2:]] == [
        "| proposed, τ 0.01 (ours)",
        "| proposed, τ 0.01 (ours)",
        "| proposed, τ 0.05",
        "| proposed, τ 0.05",
        "| proposed, τ 0.1 (ours)",
        "| proposed, τ 0.1 (ours)",
        "| iterations, proposed P, τ 0.01",
        "| iterations, proposed P, τ 0.05",
        "| iterations, proposed P, τ 0.1",
    ]
    compared = {line.split(" | ")[0] for line in markdown.splitlines() if " − " in line}
    assert compared == {
        "| proposed P + K, τ 0.01 − proposed P, τ 0.01",
        "| proposed P + K, τ 0.05 − proposed P, τ 0.05",
        "| proposed P + K, τ 0.1 − proposed P, τ 0.1",
        "| proposed P, τ 0.01 − proposed P, τ 0.05",
        "| proposed P, τ 0.1 − proposed P, τ 0.05",
        "| proposed P + K, τ 0.01 − proposed P + K, τ 0.05",
        "| proposed P + K, τ 0.1 − proposed P + K, τ 0.05",
    }
    written = pd.read_csv(tmp_path / "differences.csv")
    assert len(written.query("model == 'patient' and over_model == 'eager'")) == 2 * 2  # levels; without K and with it


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two")
    for name in ("tables.csv", "tables.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_table_has_the_papers_rows_then_ours_then_the_iterations(tmp_path: Path) -> None:
    markdown, _ = run(tmp_path)
    rows = table_of(markdown)
    assert rows == [
        "|  | P | K | 0 | 10 | 20 | 30 | 40 | kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| SAM |  |  | .800 | .790 | .750 | .700 | .600 | 75.0 % |",
        "| SAM, corner embeddings | ✓ |  | .800 | .790 | .750 | .700 | .600 | 75.0 % |",
        "| proposed | ✓ |  | .800 | .790 | .760 | .710 | .610 | 76.2 % |",
        "| proposed | ✓ | ✓ | .800 | .790 | .760 | .750 | .700 | 87.5 % |",
        "| SAM (ours) |  | ✓ | .800 | .790 | .760 | .750 | .700 | 87.5 % |",
        "| SAM, corner embeddings (ours) | ✓ | ✓ | .800 | .790 | .760 | .750 | .700 | 87.5 % |",
        "| iterations |  |  | 2.00 | 2.00 | 2.00 | 3.00 | 4.00 |  |",
    ]


def test_several_seeds_show_their_spread_and_the_interval(tmp_path: Path) -> None:
    """Seeds 0.02 apart; images 0.06."""
    markdown, csv = run(tmp_path, seeds=(0, 1, 2))
    assert "means ± standard deviations over 3 seeds (0, 1, 2)" in markdown
    assert "| proposed | ✓ |  | .820 ± .020 [.790, .850] |" in markdown
    assert "| iterations |  |  | 2.00 ± 0.00 [1.50, 2.50] |" in markdown
    assert csv.query("level == 0 and model == 'sam'")["miou_sd"].tolist() == [0.02, 0.02]


def test_what_is_kept_shows_its_spread_and_the_papers(tmp_path: Path) -> None:
    """Seeds keep .60 of .80 and .62 of .82; of their means one image .58 of .78 and the other .64 of .84."""
    datasets = {"isbi": {"title": "ISBI 2012", "published": "isbi2012", "parts": ["isbi"]}}
    markdown, csv = run(tmp_path, EXPERIMENT | {"datasets": datasets}, ("isbi",), (0, 1))
    sam = csv.query("model == 'sam' and not iterated and level == 40").iloc[0]
    assert sam["kept"] == pytest.approx(0.61 / 0.81, abs=1e-6)
    assert sam[["kept_low", "kept_high"]].tolist() == pytest.approx([0.58 / 0.78, 0.64 / 0.84], abs=1e-6)
    assert sam["kept_sd"] == pytest.approx((0.62 / 0.82 - 0.60 / 0.80) / np.sqrt(2), abs=1e-6)
    assert table_of(markdown)[2].endswith("| 75.3 % ± 0.4 % [74.4 %, 76.2 %] (73.5 %) |")


def test_nothing_is_kept_of_nothing(tmp_path: Path) -> None:
    """A model whose masks are empty at the lowest level."""
    sam = {"sam": EXPERIMENT["models"]["sam"]}
    run(tmp_path, EXPERIMENT | {"models": sam, "levels": [0, 10]})
    empty = tmp_path / "score/cells/sam/0/0.csv"
    pd.read_csv(empty).assign(iou=0.0, iou_iterated=0.0).to_csv(empty, index=False)
    scores, timings = (
        [str(path) for path in sorted(tmp_path.glob(f"*/cells/sam/0/*.{end}"))] for end in ("csv", "json")
    )
    slots = {name: str(tmp_path / name) for name in ("markdown", "csv", "differences", "claims")}
    embed = [str(tmp_path / "embed/cells.json")]
    experiment = EXPERIMENT | {"models": sam, "levels": [0, 10]}
    run_stage(
        tables, audit="passed", scores=scores, timings=timings, embed_timings=embed, experiment=experiment, **slots
    )
    assert "| SAM |  |  | .000 | .790 |  |" in (tmp_path / "markdown").read_text(encoding="utf-8")


def test_a_difference_shows_its_spread_over_seeds(tmp_path: Path) -> None:
    markdown, _ = run(tmp_path, seeds=(0, 1))
    assert "+.0900 ± .0000 [+.0900, +.0900] p .500 |" in markdown


def test_differences_show_interval_and_p(tmp_path: Path) -> None:
    markdown, _ = run(tmp_path)
    assert "| proposed P + K − proposed P | +.0000 [+.0000, +.0000] p 1.000 |" in markdown
    assert "+.0900 [+.0900, +.0900] p .500 |" in markdown


def test_tables_and_csv_show_the_same_figures(tmp_path: Path) -> None:
    markdown, csv = run(tmp_path)
    row = next(line for line in table_of(markdown) if line.startswith("| proposed | ✓ | ✓ |"))
    printed = [float(cell) for cell in row.split("|")[4:-2]]
    assert printed == csv.query("model == 'proposed' and iterated")["miou"].round(3).tolist()


def test_cells_of_other_objects_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    files = {kind: [str(path) for path in sorted(tmp_path.rglob(f"*/*/{kind}"))] for kind in ("*.csv", "*.json")}
    strange = tmp_path / "score/cells/sam_p/0/20.csv"
    pd.read_csv(strange).iloc[1:].to_csv(strange, index=False)
    written = ("markdown", "csv", "differences", "claims")
    outputs = {name: str(tmp_path / "again" / name) for name in written}
    with pytest.raises(DataError, match=r"same objects in all cells of cells.*cells/sam_p/0/20 has 3"):
        run_stage(
            tables, audit="", scores=files["*.csv"], timings=[], embed_timings=[], **outputs, experiment=EXPERIMENT
        )
    assert not (tmp_path / "again").exists()


def test_published_figures_stand_in_brackets(tmp_path: Path) -> None:
    datasets = {"isbi": {"title": "ISBI 2012", "published": "isbi2012", "parts": ["isbi"]}}
    markdown, _ = run(tmp_path, EXPERIMENT | {"datasets": datasets}, ("isbi",))
    assert "In brackets: the paper's figures." in markdown
    assert "| proposed | ✓ | ✓ | .800 (.830) | .790 (.817) | .760 (.784) | .750 (.727) | .700 (.650) |" in markdown
    assert "| iterations |  |  | 2.00 (1.00) | 2.00 (1.01) | 2.00 (1.05) | 3.00 (2.13) | 4.00 (3.16) |" in markdown
    assert "| SAM (ours) |  | ✓ | .800 |" in markdown


@pytest.mark.parametrize(
    ("miou", "words"),
    [
        ("object", "mIoU: mean over the test objects of the IoU"),
        ("tile", "mIoU: mean over the test tiles of their objects' mean of the IoU"),
        ("foreground", "mIoU: mean over the test tiles, with all objects of a tile taken together, of the IoU"),
    ],
)
def test_the_legend_says_how_an_miou_is_averaged(tmp_path: Path, miou: str, words: str) -> None:
    markdown, _ = run(tmp_path, EXPERIMENT | {"levels": [0], "miou": miou})
    assert words in markdown


def test_the_sizes_stand_above_the_table(tmp_path: Path) -> None:
    markdown, _ = run(tmp_path)
    assert (
        "## Cells of ours\n\n4 test objects in 2 tiles of 2 slices, so few that intervals are an indication.\n"
        in markdown
    )


def test_folds_stand_together_and_then_each(tmp_path: Path) -> None:
    folds = ("cells_1", "cells_2", "cells_3")
    datasets = {"cells": {"title": "Cells", "published": None, "parts": list(folds)}}
    datasets |= {name: {"title": f"Fold {name}", "published": None, "parts": [name]} for name in folds}
    markdown, csv = run(tmp_path, EXPERIMENT | {"datasets": datasets, "objects": 4}, folds, (0, 1))
    assert [line for line in markdown.splitlines() if line.startswith("## ")] == [
        "## Cells",
        *(f"## Fold {name}" for name in folds),
    ]
    assert "## Cells\n\n12 evenly spaced test objects in 6 tiles of 6 slices" in markdown
    assert csv["dataset"].unique().tolist() == ["cells", *folds]
    assert len(csv) == 4 * 3 * 5 * 2
    claims = pd.read_csv(tmp_path / "claims.csv").query("claim.str.startswith('C5')").set_index("dataset")["because"]
    assert claims["cells"] == claims["cells_1"]
    assert claims["cells"].startswith("× 1.40 (1.40 to 1.40 over seeds)")


def test_the_time_claim_gives_seconds_a_tile_and_the_cost_of_encoding_again(tmp_path: Path) -> None:
    """Encoder 0.4 s, first masks 0.1 s, repeated 0.2 s; the slowest objects take 4 and 5 iterations."""
    markdown, _ = run(tmp_path)
    assert (
        "| C5 at 40 %, a tile takes at most 1.5 × as long with K as without | shown | "
        "× 1.40: encoder 0.400 s, first masks 0.100 s, repeated ones 0.200 s a tile; "
        "with the encoder run again at each of a tile's 4.5 iterations it would be × 5.00 |"
    ) in markdown


def test_levels_and_models_may_be_left_out(tmp_path: Path) -> None:
    sam = {"sam": EXPERIMENT["models"]["sam"]}
    markdown, csv = run(tmp_path, EXPERIMENT | {"levels": [0, 10], "models": sam})
    assert "| kept |" in markdown
    assert "| kept |" not in run(tmp_path / "one", EXPERIMENT | {"levels": [40], "models": sam})[0]
    assert markdown.count("| not run |") == len(CLAIMS)
    assert "iterations |" not in markdown
    assert set(csv.model) == {"sam"}


def test_a_title_breaks_no_table_and_is_no_html(tmp_path: Path) -> None:
    models = EXPERIMENT["models"] | {"sam": {"title": "a|b <script>", "prompt_tuned": False}}
    datasets = {"cells": {"title": "Cells <img>", "published": None, "parts": ["cells"]}}
    markdown, _ = run(tmp_path, EXPERIMENT | {"models": models, "datasets": datasets})
    assert "| a\\|b &lt;script&gt; |" in markdown
    assert "## Cells &lt;img&gt;" in markdown
    assert "<script" not in markdown
