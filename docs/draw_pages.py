"""Write a screenshot of the top of a page, for the documents.

python docs/draw_pages.py results/collect/example/predict.html docs/predict-page.png

The script needs Chromium and the extra `test`. It reduces the number of colours to keep the picture small.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1100, 860  # pixels of the part that is shown
COLOURS = 64


def screenshot(page: Path, picture: Path) -> None:
    """Write the top of an HTML page as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        shot = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        browser.close()
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    screenshot(Path(sys.argv[1]), Path(sys.argv[2]))
