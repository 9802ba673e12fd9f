"""The figures. Each takes what it shows and a theme, and labels its axes with units.

Lines are told apart by their markers and by a label at their end, not by colour alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.page.theme import Theme, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v")
STYLES = ("-", "--", "-.", ":", (0, (4, 1, 1, 1, 1, 1)))
Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Points of each line, by its label."""
LABEL_POINTS = 11.0
"""A line of text."""
LABEL_CHARACTERS = 26
NINES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))


def percentile_curves(lines: Lines, theme: Theme) -> Figure:
    """Milliseconds at each share of the calls; the axis gives each further nine the same room."""
    figure, (axis,) = blank()
    points = [
        (label, [(np.log10(1 / (1 - share)), ms) for share, ms in line if share < 1]) for label, line in lines.items()
    ]
    _draw_lines(axis, points, theme)
    ends = max(x for _, line in points for x, _ in line)
    ticks = [(np.log10(1 / (1 - share)), name) for share, name in NINES if np.log10(1 / (1 - share)) <= ends + 0.05]
    axis.set_xticks([x for x, _ in ticks], [name for _, name in ticks])
    axis.set_xlim(ticks[0][0] - 0.08, ends + 1.5)
    axis.set_xlabel("share of the calls that took no longer")
    axis.set_ylabel("duration of a call, ms")
    _log(axis.yaxis)
    _label_ends(axis, points, theme)
    return figure


def against_processes(rates: Lines, tails: Lines, longest: Lines, theme: Theme) -> Figure:
    """Calls per second, the 99th percentile and the longest call, by the number of processes."""
    figure, axes = blank(3, 5.6, sharex=True)
    drawn = []
    for axis, lines in zip(axes, (rates, tails, longest), strict=True):
        points = [(label, [(np.log2(x), y) for x, y in line]) for label, line in lines.items()]
        _draw_lines(axis, points, theme)
        drawn.append((axis, points))
        counts = sorted({x for line in lines.values() for x, _ in line})
        axis.set_xticks([np.log2(count) for count in counts], [f"{count:g}" for count in counts])
        axis.set_xlim(np.log2(counts[0]) - 0.2, np.log2(counts[-1]) + 0.55 * np.log2(2 * counts[-1] / counts[0]))
    axes[0].set_ylim(0)
    axes[0].yaxis.set_major_formatter(_thousands())
    for axis, label in zip(axes, ("enqueues/s, all", "p99, ms", "longest call, ms"), strict=True):
        axis.set_ylabel(label)
    axes[-1].set_xlabel("processes that enqueue without a pause")
    for axis in axes[1:]:
        _log(axis.yaxis)
    for axis, points in drawn:
        _label_ends(axis, points, theme)
    return figure


def against_depth(lines: Lines, theme: Theme) -> Figure:
    """Microseconds by the number of tasks that wait."""
    figure, (axis,) = blank()
    points = [(label, [(np.log10(x), y) for x, y in line]) for label, line in lines.items()]
    _draw_lines(axis, points, theme)
    depths = sorted({x for line in lines.values() for x, _ in line})
    axis.set_xticks([np.log10(depth) for depth in depths], [f"{depth:,.0f}" for depth in depths])
    axis.set_xlim(np.log10(depths[0]) - 0.1, np.log10(depths[-1]) + 0.5 * np.log10(depths[-1] / depths[0]))
    axis.set_ylim(0)
    axis.set_xlabel("tasks waiting in the queue")
    axis.set_ylabel("p50 of a call, µs")
    _label_ends(axis, points, theme)
    return figure


def log_over_time(
    seconds: Sequence[float],
    wal_mb: Sequence[float],
    rates: Lines,
    held: tuple[float, float],
    limit_mb: float,
    theme: Theme,
) -> Figure:
    """The WAL's size above, tasks per second below; the band is while a reader holds its snapshot."""
    figure, (above, below) = blank(2, 4.2, sharex=True, gridspec_kw={"height_ratios": (3, 2)})
    for axis in (above, below):
        axis.axvspan(*held, color=theme.band, lw=0)
    above.text(
        held[1] + 0.02 * seconds[-1], 0.5, "band: a reader\nholds its snapshot", transform=above.get_xaxis_transform()
    )
    above.plot(seconds, wal_mb, color=theme.first, lw=1.4)
    above.axhline(limit_mb, color=theme.second, ls="--", lw=1.2)
    above.text(seconds[-1], limit_mb, f"limit {limit_mb:,.0f} MB", ha="right", va="bottom", color=theme.second)
    above.set_ylim(0, limit_mb * 1.12)
    above.yaxis.set_major_formatter(_thousands())
    above.set_ylabel("size of the WAL, MB")
    for (label, line), color, style in zip(rates.items(), theme.series(), STYLES, strict=False):
        below.plot([x for x, _ in line], [y for _, y in line], color=color, ls=style, label=label)
    below.set_ylim(0, 1.4 * max(y for line in rates.values() for _, y in line))  # room for the legend
    below.yaxis.set_major_formatter(_thousands())
    below.set_ylabel("tasks/s")
    below.legend(loc="upper right", ncols=2)
    below.set_xlabel("time, s")
    return figure


def wake_histogram(sides: Mapping[str, Sequence[float]], theme: Theme) -> Figure:
    """One histogram a side, below each other, on one logarithmic axis of microseconds; the median is marked."""
    figure, axes = blank(len(sides), 1.15 * len(sides) + 0.6, sharex=True)
    least = max(5.0, min(float(np.quantile(values, 0.002)) for values in sides.values()))  # what is below is put there
    bins = np.geomspace(least, max(max(values) for values in sides.values()) * 1.05, 46)
    for axis, (label, values), color in zip(axes, sides.items(), theme.series(), strict=False):
        axis.hist(np.maximum(values, least), bins=bins, color=color, alpha=0.85)
        axis.set_xscale("log")
        p50 = float(np.median(values))
        axis.axvline(p50, color=theme.ink, lw=1.2, ls="--")
        axis.set_title(f"{label}: p50 {p50:,.0f} µs")
        axis.set_ylabel("tasks")
    axes[-1].set_xlabel("from the enqueue's return to the task in the worker's hands, µs")
    _log(axes[-1].xaxis)
    return figure


def bars(
    values: Mapping[str, float | None], unit: str, form: str, marked: Sequence[str], theme: Theme, log: bool = False
) -> Figure:
    """One horizontal bar each, its value beside it; `marked` ones in the first colour and bold."""
    names = [textwrap.fill(name, LABEL_CHARACTERS) for name in values]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    figure, (axis,) = blank(1, 0.55 + (0.12 + 0.12 * lines) * len(values))
    known = [value for value in values.values() if value is not None and value > 0]
    least = min(known, default=1.0) / 3 if log else 0.0
    most = max(known, default=1.0)
    for place, (name, value) in enumerate(values.items()):
        own = name in marked
        shown = least if value is None else max(value, least)
        axis.barh(place, shown - least, left=least, height=0.66, color=theme.first if own else theme.third)
        said = "none" if value is None else format(value, form)
        axis.annotate(said, (shown, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    for label, name in zip(axis.get_yticklabels(), values, strict=True):
        label.set_color(theme.ink)
        label.set_fontweight("bold" if name in marked else "normal")
    axis.invert_yaxis()
    axis.grid(False)
    if log:
        axis.set_xscale("log")
        axis.set_xlim(least, most * (most / least) ** 0.25)
    else:
        axis.set_xlim(0, most * 1.22)
    axis.set_xlabel(unit)
    axis.xaxis.set_major_formatter(_thousands())
    return figure


def strips(rows: Mapping[str, Sequence[float]], limit: float, unit: str, theme: Theme) -> Figure:
    """Every single value as a point, a row for each name; the dashed line is the promise."""
    figure, (axis,) = blank(1, 0.9 + 0.4 * len(rows))
    for place, values in enumerate(rows.values()):
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        axis.plot(values, place + spread, "o", color=theme.first, alpha=0.75, ms=4.5, mew=0)
    axis.axvline(limit, color=theme.second, ls="--", lw=1.2)
    axis.annotate(
        f"promised: {limit:g}", (limit, -0.6), (-4, 0), textcoords="offset points", ha="right", color=theme.second
    )
    axis.set_ylim(len(rows) - 0.5, -0.9)
    axis.set_xlim(min(0.0, *(min(values) for values in rows.values())) - 1, limit * 1.05)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.grid(True, axis="x")
    axis.set_xlabel(unit)
    return figure


def ratios(rows: Mapping[str, tuple[float, float, float]], unit: str, theme: Theme) -> Figure:
    """Each a ratio with its interval (middle, low, high) on a logarithmic axis around 1."""
    figure, (axis,) = blank(1, 0.9 + 0.3 * len(rows))
    axis.axvline(1.0, color=theme.ink, lw=1)
    for place, (middle, low, high) in enumerate(rows.values()):
        clear = low > 1 or high < 1
        color = theme.first if clear else theme.third
        axis.plot((low, high), (place, place), color=color, lw=2)
        axis.plot(middle, place, "o" if clear else "s", color=color, mfc=color if clear else theme.paper)
        axis.annotate(f"{middle:.2f}", (high, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), list(rows))
    for label in axis.get_yticklabels():
        label.set_color(theme.ink)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    ends = [end for _, low, high in rows.values() for end in (low, high)] + [0.9, 1.1]
    axis.set_xlim(min(ends) * 0.97, max(ends) * 1.06)
    axis.grid(True, axis="x")
    axis.grid(False, axis="y")
    axis.set_xlabel(unit)
    return figure


def _draw_lines(axis: Any, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], theme: Theme) -> None:
    for (_, points), color, marker, style in zip(lines, theme.series(), MARKERS, STYLES, strict=False):
        axis.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=color,
            marker=marker,
            ls=style,
            mec=theme.paper,
            mew=0.8,
        )


def _label_ends(axis: Any, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], theme: Theme) -> None:
    """Each line's label beside its last point, moved up or down where labels would cover each other."""
    axis.figure.draw_without_rendering()  # so that places on the axes are known
    points_per_pixel = 72 / axis.figure.dpi
    ends = sorted(
        (axis.transData.transform(points[-1])[1] * points_per_pixel, label, points[-1], color)
        for (label, points), color in zip(lines, theme.series(), strict=False)
    )
    heights = [height for height, *_ in ends]
    rising, falling = list(heights), list(heights)
    for place in range(1, len(ends)):
        rising[place] = max(heights[place], rising[place - 1] + LABEL_POINTS)
        falling[-1 - place] = min(heights[-1 - place], falling[-place] - LABEL_POINTS)
    for (height, label, point, color), high, low in zip(ends, rising, falling, strict=True):
        axis.annotate(
            label,
            point,
            (7, (high + low) / 2 - height),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=8,
            weight="bold",
            annotation_clip=False,
        )


def _log(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.axis_name == "y":
        axis.axes.set_yscale("log")
    else:
        axis.axes.set_xscale("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if np.log10(high / low) > 3 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _thousands() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.10g}")
