"""The page: one HTML file that needs nothing else, and the figures as PNGs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

from bench.page.sections import SOURCES, Missing, Plot, Section, Table
from bench.page.theme import DARK, LIGHT, png, stylesheet_variables, svg
from bench.recorded import Recorded

TITLE = "prismq: benchmark report"

STYLE = """
:root { color-scheme: light dark; --font: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; LIGHT
  --page: #f5f6f8; --good: #0b6b3a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { DARK --page: #0b0d12; --good: #6fd39a; --bad: #ff8f86; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 var(--font); }
main, header, footer { max-width: 1280px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 36px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 0 0 8px; }
p { margin: 0 0 12px; max-width: 75ch; }
a { color: var(--first); }
nav { margin: 14px 0 24px; display: flex; flex-wrap: wrap; gap: 6px 8px; }
nav a { text-decoration: none; border: 1px solid var(--grid); border-radius: 999px; padding: 2px 12px;
  font-size: 0.9rem; background: var(--paper); }
nav a:hover { border-color: var(--first); }
section { background: var(--paper); border: 1px solid var(--grid); border-radius: 14px; padding: 22px 24px;
  margin: 0 0 22px; }
.lead { color: var(--faint); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 26px 34px;
  align-items: start; margin-top: 14px; }
.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; font-family: var(--font); }
figcaption { color: var(--faint); font-size: 0.82rem; line-height: 1.4; margin-top: 6px; }
.table { min-width: 0; }
.scroll { overflow: auto; max-height: 32rem; scrollbar-width: thin; border-bottom: 1px solid var(--grid); }
table { border-collapse: collapse; font-size: 0.86rem; width: 100%; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text, th.text { text-align: left; }
th { color: var(--faint); font-weight: 600; vertical-align: bottom; position: sticky; top: 0;
  background: var(--paper); }
ul.verdicts { list-style: none; margin: 14px 0 0; padding: 0; display: grid; gap: 4px 30px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); font-size: 0.9rem; }
ul.verdicts li { display: flex; gap: 10px; align-items: baseline; border-bottom: 1px solid var(--grid);
  padding: 3px 0; }
ul.notes { color: var(--faint); font-size: 0.82rem; line-height: 1.4; margin: 14px 0 0; padding-left: 18px; }
.mark { font-weight: 700; white-space: nowrap; }
.kept { color: var(--good); }
.missed { color: var(--bad); text-decoration: underline; }
.measured { margin-left: auto; text-align: right; color: var(--faint); font-variant-numeric: tabular-nums; }
code { font: 0.85em ui-monospace, "SF Mono", Consolas, monospace; background: var(--page); padding: 2px 6px;
  border-radius: 6px; overflow-wrap: anywhere; }
.made { font-size: 0.82rem; color: var(--faint); margin: 14px 0 0; }
ul.glance { list-style: none; margin: 0 0 24px; padding: 0; display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); }
ul.glance li { background: var(--paper); border: 1px solid var(--grid); border-radius: 12px; padding: 12px 16px; }
ul.glance b { display: block; font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.01em; }
ul.glance span { color: var(--faint); font-size: 0.85rem; line-height: 1.35; display: block; }
footer { color: var(--faint); font-size: 0.85rem; padding-bottom: 40px; }
@media (max-width: 560px) { main, header, footer { padding-left: 12px; padding-right: 12px; }
  section { padding: 16px 14px; border-radius: 10px; } .measured { max-width: 45%; } }
@media print { body { background: white; } section { break-inside: avoid; } nav { display: none; }
  .scroll { max-height: none; } }
"""


def build(results: Path, out: Path, images: Path | None, only: Collection[str] = ()) -> list[Missing]:
    """Write the page to `out` and, with `images`, each figure there as NAME-light.png and NAME-dark.png; `only`
    some of them, if that says any.

    Returns the sections that are missing. MissingExtraError without matplotlib.
    """
    parts = {source: source.read(results) for source in SOURCES}
    made = {source: part for source, part in parts.items() if isinstance(part, Section)}
    sections = list(made.values())
    missing = [part for part in parts.values() if isinstance(part, Missing)]
    out.write_text(render(sections, missing), encoding="utf-8")
    if images is not None:
        images.mkdir(parents=True, exist_ok=True)
        for source, section in made.items():
            said = f"{source.file} {Recorded.read(results / source.file).date}"
            for plot in section.plots:
                if not only or plot.name in only:
                    save_images(plot, images, said)
    return missing


def save_images(plot: Plot, folder: Path, source: str) -> None:
    """The figure for light and for dark pages; `source` says which results, and of when, it was made of."""
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        (folder / f"{plot.name}-{name}.png").write_bytes(png(plot.draw, theme, plot.name, source))


def render(sections: Sequence[Section], missing: Sequence[Missing]) -> str:
    """The whole page."""
    style = STYLE.replace("LIGHT", stylesheet_variables(LIGHT)).replace("DARK", stylesheet_variables(DARK))
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in sections)
    links += '<a href="#missing">Missing</a>' if missing else ""
    body = "\n".join(map(_section, sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{TITLE}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style>\n</head>\n<body>\n<header>\n<h1>{TITLE}</h1>\n{_summary(sections)}\n"
        f"{_glance(sections)}<nav>{links}</nav>\n</header>\n<main>\n{body}\n{_missing(missing)}</main>\n"
        "<footer>A figure means nothing without the machine, durability and day it was measured on: they are below"
        " each. Compare within one figure; between two machines or days compare ratios.</footer>\n</body>\n</html>\n"
    )


def _summary(sections: Sequence[Section]) -> str:
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    kept = sum(bool(verdict["passed"]) for verdict in verdicts)
    failed = [(section, one) for section in sections for one in section.verdicts if not one["passed"]]
    said = f'<p class="lead"><strong>{kept} of {len(verdicts)} promises kept.</strong>'
    if failed:
        names = "; ".join(
            f'<a href="#{section.name}">{escape(str(one["promise"]))}</a>: {escape(str(one["measured"]))}'
            for section, one in failed
        )
        said += f" Missed: {names}."
    return said + "</p>"


def _glance(sections: Sequence[Section]) -> str:
    items = "".join(
        f"<li><b>{escape(figure)}</b><span>{escape(what)}</span></li>\n"
        for section in sections
        for figure, what in section.headlines
    )
    return f'<ul class="glance">\n{items}</ul>\n' if items else ""


def _section(section: Section) -> str:
    figures = [_figure(plot) for plot in section.plots]
    tables = [_table(table) for table in section.tables]
    if section.small or len(figures) > 1:
        small = " small" if section.small else ""
        content = _grid(figures, small) + _grid(tables)
    else:
        content = _grid([*figures, *tables])
    return (
        f'<section id="{section.name}">\n<h2>{escape(section.title)}</h2>\n<p class="lead">{escape(section.text)}</p>\n'
        f"{content}{_notes(section)}{_verdicts(section)}\n"
        f'<p class="made">Made by <code>{escape(section.command)}</code></p>\n</section>'
    )


def _grid(parts: Sequence[str], kind: str = "") -> str:
    return f'<div class="pair{kind}">\n{"".join(parts)}</div>\n' if parts else ""


def _figure(plot: Plot) -> str:
    picture = svg(plot.draw, plot.name, escape(plot.title, quote=True))
    return (
        f'<figure id="figure-{plot.name}">\n<h3>{escape(plot.title)}</h3>\n{picture}\n'
        f"<figcaption>{escape(plot.caption)}</figcaption>\n</figure>\n"
    )


def _table(table: Table) -> str:
    texts = [not any(_is_figure(row[column]) for row in table.rows) for column in range(len(table.header))]
    head = "".join(
        f'<th scope="col"{_kind(text)}>{escape(cell)}</th>' for cell, text in zip(table.header, texts, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{_kind(text)}>{escape(cell)}</td>" for cell, text in zip(row, texts, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="table"><h3>{escape(table.title)}</h3><div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div></div>\n"
    )


def _is_figure(cell: str) -> bool:
    return cell[:1].isdigit() or cell[1:2].isdigit()


def _kind(text: bool) -> str:
    return ' class="text"' if text else ""


def _verdicts(section: Section) -> str:
    if not section.verdicts:
        return ""
    lines = []
    for verdict in section.verdicts:
        kind, mark = ("kept", "✓ PASS") if verdict["passed"] else ("missed", "✗ FAIL")
        lines.append(
            f'<li><span class="mark {kind}">{mark}</span><span>{escape(str(verdict["promise"]))}</span>'
            f'<span class="measured">{escape(str(verdict["measured"]))}</span></li>'
        )
    return '<ul class="verdicts">\n' + "\n".join(lines) + "\n</ul>\n"


def _notes(section: Section) -> str:
    lines = "".join(f"<li>{escape(note)}</li>\n" for note in section.notes)
    return f'<ul class="notes">\n{lines}</ul>\n' if lines else ""


def _missing(missing: Sequence[Missing]) -> str:
    if not missing:
        return ""
    lines = "".join(
        f"<li>{escape(one.title)}: no figures from {escape(one.file)}, {escape(one.reason)}; "
        f"<code>{escape(one.command)}</code> makes it</li>\n"
        for one in missing
    )
    return f'<section id="missing">\n<h2>Missing</h2>\n<ul>\n{lines}</ul>\n</section>\n'
