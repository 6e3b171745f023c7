"""Train the detector from scratch on the training tiles of a data set, and keep it after several numbers of steps.

    python experiments/detector/train.py results/laptop epfl

An early detector finds fewer objects, and its boxes are looser. If the training is interrupted, the same command
continues it.
"""

import argparse
from pathlib import Path

import torch
from network import detector
from tiles import Tiles, draw_batch
from tqdm import tqdm

from pipeline_lib.runtime.atomic import atomic

STEPS = (500, 1500, 4500)
TILES, RATE, WARMUP, SAVED = 4, 5e-4, 30, 50  # tiles of a step, learning rate, steps in which it rises, or to a file


def train(results: Path, dataset: str, steps: tuple[int, ...], seed: int = 0) -> None:
    """Write the weights after each number of steps to RESULTS/detector/DATASET/STEPS.pt."""
    folder = results / "detector" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model, last = detector().train(), max(steps)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / WARMUP, 1) * (1 - step / last))
    parts = {"model": model, "optimiser": optimiser, "rate": rate}
    unfinished, first = folder / "unfinished.pt", 0
    if unfinished.exists():
        saved = torch.load(unfinished, weights_only=True)
        first = saved.pop("step")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
    elif all((folder / f"{number}.pt").exists() for number in steps):
        return
    tiles = Tiles(results, dataset)
    numbers = tiles.of_split("train")
    for step in (progress := tqdm(range(first, last), "steps", last, initial=first, mininterval=10)):
        torch.manual_seed(step)  # of the samples of proposals: an interrupted training ends in the same weights
        images, targets = zip(*draw_batch(tiles, numbers, TILES, [seed, step]), strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimiser.step()
        rate.step()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if step + 1 in steps:
            with atomic(folder / f"{step + 1}.pt") as path:
                torch.save(model.state_dict(), path)
        if (step + 1) % SAVED == 0:
            with atomic(unfinished) as path:
                torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step + 1}, path)
    unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of results with the stages convert and boxes")
    parser.add_argument("dataset", help="data set, as the configuration calls it")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="numbers of steps (default: 500 1500 4500)")
    arguments = parser.parse_args()
    train(arguments.results, arguments.dataset, tuple(arguments.steps))
