"""Photograph a page that LooseBox wrote, for the documents: its top, or a part of it that a CSS selector names.

python docs/draw_pages.py results/collect/example/predict.html docs/predict-page.png
python docs/draw_pages.py results/report.html docs/report-page.png
python docs/draw_pages.py results/report.html docs/report-objects.png "#data-mitochondria .objects"

The script needs Chromium and the extra `test`. It reduces the number of colours to keep the picture small.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 860  # of the window, pixels
TALLEST = 1115  # pixels of a part that are shown at most
COLOURS = 128


def photograph(page: Path, picture: Path, part: str | None = None) -> None:
    """Write the top of an HTML page, or the first element that the CSS selector `part` matches, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.add_style_tag(content="nav { position: static !important }")  # it would lie over the part
        taken = tab.locator(part).first.screenshot() if part else tab.screenshot()
        browser.close()
    shot = Image.open(io.BytesIO(taken)).convert("RGB")
    shot = shot.crop((0, 0, shot.width, min(shot.height, TALLEST)))
    shot.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
