"""Colours and type of the figures: light, dark, and as CSS variables that the page sets for either."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_INCHES = 4.8
FONT = "DejaVu Sans"
PIXELS_PER_INCH = 200
SOURCE = "Source"
"""A keyword of the PNG specification."""


class MissingExtraError(Exception):
    """A package that the report needs is not installed."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours, each as #rrggbb. `first` is prismq's; the others are never needed to tell things apart by themselves."""

    paper: str
    ink: str
    faint: str
    grid: str
    band: str
    first: str
    second: str
    third: str
    fourth: str
    fifth: str

    def series(self) -> tuple[str, ...]:
        return self.first, self.second, self.third, self.fourth, self.fifth


LIGHT = Theme(
    paper="#ffffff",
    ink="#1c2230",
    faint="#5b6472",
    grid="#e3e6eb",
    band="#f3e3c8",
    first="#1f5fd0",
    second="#b4540a",
    third="#6b7280",
    fourth="#0c7a6b",
    fifth="#8a3fb8",
)
DARK = Theme(
    paper="#12151c",
    ink="#e8eaf0",
    faint="#a2abba",
    grid="#2b313d",
    band="#4a3a1c",
    first="#76a9ff",
    second="#f2a65a",
    third="#a3adbb",
    fourth="#4fd0b8",
    fifth="#cf9cf5",
)
STAND_IN = Theme(*(f"#fe{number:02x}ef" for number in range(len(fields(Theme)))))
"""Colours that no figure has otherwise; in an SVG they become var(--paper), var(--ink) and so on."""

Draw = Callable[[Theme], "Figure"]


def stylesheet_variables(theme: Theme) -> str:
    """The theme as CSS declarations."""
    return " ".join(f"--{field.name}: {getattr(theme, field.name)};" for field in fields(theme))


def blank(rows: int = 1, height: float = 3.1, **options: Any) -> tuple[Figure, list[Any]]:
    """A figure of the usual width with `rows` axes below each other, for a Draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    found = list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])
    for axis in found:
        axis.set_axisbelow(True)
        axis.grid(True, axis="y")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(which="both", length=0)
        axis.tick_params(axis="x", which="major", length=3)
    return figure, found


def drawn(draw: Draw, theme: Theme) -> Figure:
    """The figure. MissingExtraError without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError('figures need matplotlib: pip install "prismq[report]"') from error
    with matplotlib.rc_context(_style(theme)):
        return draw(theme)


def svg(draw: Draw, name: str, title: str) -> str:
    """The figure as an SVG element for a page that sets the theme's variables."""
    text = _saved(drawn(draw, STAND_IN), "svg", name).decode()
    text = text[text.index("<svg") :]
    for field in fields(Theme):
        text = text.replace(getattr(STAND_IN, field.name), f"var(--{field.name})")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # an element of an HTML page needs none
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = text.replace(f"'{FONT}'", "var(--font)").replace(FONT, "var(--font)")
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    head = f'<svg role="img" aria-label="{title}" {view[0]} version="1.1">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)


def png(draw: Draw, theme: Theme, name: str, source: str = "") -> bytes:
    """The figure as a PNG that says in itself what it was made of."""
    return _saved(drawn(draw, theme), "png", name, source)


def made_of(file: Path) -> str:
    """The `source` of a PNG; empty when it says none. OSError."""
    content = file.read_bytes()
    head = b"tEXt" + SOURCE.encode() + b"\0"
    start = content.find(head)
    if start < 0:
        return ""
    end = start + 4 + int.from_bytes(content[start - 4 : start])  # a chunk: its length, its type, and so many bytes
    return content[start + len(head) : end].decode("latin-1")


def _saved(figure: Figure, form: str, salt: str, source: str = "") -> bytes:
    import matplotlib

    held = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        metadata = {"Date": None} if form == "svg" else {"Software": None, SOURCE: source or None}
        figure.savefig(held, format=form, dpi=PIXELS_PER_INCH, metadata=metadata)
    return held.getvalue()


def _style(theme: Theme) -> Any:
    return {
        "font.family": FONT,
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "text.color": theme.ink,
        "axes.labelcolor": theme.faint,
        "axes.titlecolor": theme.ink,
        "axes.edgecolor": theme.faint,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.06,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
