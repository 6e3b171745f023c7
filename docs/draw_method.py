"""Draw the method as SVG, for light and for dark pages: `python docs/draw_method.py`, from the repository's root.

The output is the same, byte for byte, each time.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 1000, 490
# Outline of an object, from its centre.
CELL = [(-24, -2), (-17, -22), (4, -27), (24, -15), (25, 9), (10, 25), (-13, 22)]
WALLS = "M-30,-10 L-8,-14 L2,-30 M-8,-14 L-4,10 L-30,18 M-4,10 L14,14 L30,2 M14,14 L10,30"  # membranes of an icon


@dataclass(frozen=True)
class Theme:
    """Colours of lines and words, and fill and border of frozen parts, of trained parts and of data."""

    ink: str
    faint: str
    panel: str
    frozen: tuple[str, str]
    trained: tuple[str, str]
    data: tuple[str, str]
    box: str


LIGHT = Theme(
    ink="#1f2328",
    faint="#59636e",
    panel="#f6f8fa",
    frozen=("#e4e8ec", "#818b98"),
    trained=("#ffe8d1", "#bc4c00"),
    data=("#d8edff", "#0969da"),
    box="#e16f24",
)
DARK = Theme(
    ink="#f0f6fc",
    faint="#9198a1",
    panel="#151b23",
    frozen=("#2a313c", "#7d8590"),
    trained=("#452a15", "#f0883e"),
    data=("#12325c", "#58a6ff"),
    box="#ffa657",
)


def words(x: float, y: float, text: str, colour: str, size: int = 16, anchor: str = "middle", weight: int = 400) -> str:
    """Return a line of text."""
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def rectangle(x: float, y: float, w: float, h: float, fill: str, line: str, radius: int = 8, dashes: str = "") -> str:
    """Return a rounded rectangle."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{radius}" fill="{fill}" stroke="{line}" '
        f'stroke-width="1.5"{dashed}/>'
    )


def block(x: float, y: float, w: float, colours: tuple[str, str], theme: Theme, title: str, under: str) -> str:
    """Return a step of the method: a box whose middle is at y, with a title and a line under it."""
    return (
        rectangle(x, y - 34, w, 68, *colours)
        + words(x + w / 2, y - 4, title, theme.ink, weight=600)
        + words(x + w / 2, y + 18, under, theme.ink, 14)
    )


def arrow(path: str, theme: Theme) -> str:
    """Return an arrow along a path."""
    return f'<path d="{path}" fill="none" stroke="{theme.ink}" stroke-width="1.8" marker-end="url(#head)"/>'


def outline(points: list[tuple[int, int]]) -> str:
    """Return the points of a polygon in SVG's notation."""
    return " ".join(f"{x},{y}" for x, y in points)


def icon(x: float, y: float, theme: Theme, inside: str) -> str:
    """Return a square of 76 pixels with its centre at (x, y). Coordinates of `inside` are relative to the centre."""
    return (
        f'<g transform="translate({x} {y})">{rectangle(-38, -38, 76, 76, theme.frozen[0], theme.faint, 4)}{inside}</g>'
    )


def slices(x: float, y: float, theme: Theme) -> str:
    """Return a stack of slices, with membranes on the first one."""
    behind = "".join(
        rectangle(x - 30 + shift, y - 30 - shift, 60, 60, theme.frozen[0], theme.faint, 3) for shift in (10, 5)
    )
    front = rectangle(-30, -30, 60, 60, theme.frozen[0], theme.faint, 3)
    walls = f'<path d="{WALLS}" fill="none" stroke="{theme.ink}" stroke-width="2"/>'
    return f'{behind}<g transform="translate({x} {y})">{front}{walls}</g>'


def tiles(x: float, y: float, theme: Theme) -> str:
    """Return a slice that is cut into four tiles."""
    parts = [rectangle(x + dx, y + dy, 29, 29, theme.frozen[0], theme.faint, 2) for dy in (-31, 2) for dx in (-31, 2)]
    return "".join(parts)


def method(theme: Theme) -> str:
    """Return the drawing as the text of an SVG file."""
    shape = f'<polygon points="{outline(CELL)}" fill="none" stroke="{theme.ink}" stroke-width="2"/>'
    mask = f'<polygon points="{outline(CELL)}" fill="{theme.data[1]}" stroke="{theme.ink}" stroke-width="1.5"/>'
    loose = f'<rect x="-13" y="-14" width="28" height="29" fill="none" stroke="{theme.box}" stroke-width="3"/>'
    around = f'<rect x="-26" y="-29" width="53" height="56" fill="none" stroke="{theme.box}" stroke-width="3"/>'
    parts = [
        rectangle(5, 5, 990, 140, theme.panel, "none"),
        words(20, 30, "once per tile", theme.faint, 14, "start", 600),
        slices(75, 85, theme),
        words(75, 136, "slice", theme.ink, 14),
        arrow("M122,85 H156", theme),
        tiles(200, 85, theme),
        words(200, 136, "tiles", theme.ink, 14),
        arrow("M240,85 H278", theme),
        block(286, 85, 160, theme.frozen, theme, "image encoder", "frozen"),
        arrow("M446,85 H572", theme),
        block(580, 85, 160, theme.data, theme, "embedding", "stored, used again"),
        rectangle(5, 155, 990, 290, theme.panel, "none"),
        words(20, 180, "for every object", theme.faint, 14, "start", 600),
        icon(75, 250, theme, shape + loose),
        words(20, 204, "box, too small or too large", theme.ink, 14, "start"),
        arrow("M117,250 H142", theme),
        block(150, 250, 170, theme.frozen, theme, "prompt encoder", "frozen"),
        arrow("M320,250 H350", theme),
        rectangle(358, 199, 182, 30, *theme.frozen),
        words(449, 219, "corner token", theme.ink, 14),
        rectangle(358, 235, 182, 30, *theme.frozen),
        words(449, 255, "corner token", theme.ink, 14),
        rectangle(358, 271, 182, 30, *theme.trained),
        words(449, 291, "deviation token (P)", theme.ink, 14, weight=600),
        arrow("M543,250 H572", theme),
        block(580, 250, 160, theme.trained, theme, "mask decoder", "trained"),
        arrow("M660,119 V208", theme),
        arrow("M740,250 H788", theme),
        icon(835, 250, theme, mask),
        words(885, 255, "mask", theme.ink, 14, "start"),
        arrow("M835,288 V338", theme),
        rectangle(740, 346, 190, 68, theme.panel, theme.ink, 34),
        words(835, 376, "changed by", theme.ink, 14),
        words(835, 396, "more than τ?", theme.ink, 14),
        arrow("M930,380 H960 V316", theme),
        words(948, 374, "no", theme.ink, 14),
        words(960, 306, "result", theme.ink, 15, weight=600),
        arrow("M740,380 H645", theme),
        words(698, 373, "yes", theme.ink, 14),
        icon(600, 380, theme, mask + around),
        words(550, 376, "bounding box", theme.ink, 14, "end"),
        words(550, 396, "of the mask", theme.ink, 14, "end"),
        arrow("M448,380 H75 V298", theme),
        words(262, 370, "the next box (K: iterated inference)", theme.ink, 14, weight=600),
        *legend(theme),
    ]
    head = (
        '<defs><marker id="head" viewBox="0 0 10 10" refX="7" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="{theme.ink}"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
            "<title>Deviation token and iterated inference</title>",
            head,
            *parts,
            "</svg>\n",
        ]
    )


def legend(theme: Theme) -> list[str]:
    """Return the legend of the colours."""
    parts = []
    for x, colours, text in (
        (20, theme.frozen, "frozen, as in Segment Anything"),
        (290, theme.trained, "trained, on boxes of the wrong size"),
        (590, theme.data, "made by the model"),
    ):
        parts += [rectangle(x, 459, 22, 18, *colours, 4), words(x + 32, 473, text, theme.ink, 14, "start")]
    return parts


if __name__ == "__main__":
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        (FOLDER / f"method-{name}.svg").write_text(method(theme), encoding="utf-8")
