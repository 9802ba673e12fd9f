"""The report is one file that needs nothing else, each figure says what it shows, and what is missing is said."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.command import main
from bench.options import RESULTS
from bench.page import theme
from bench.page.page import build
from bench.page.sections import SOURCES, Missing, Plot, Section, read_all
from bench.peers.contest import Contest, Turn
from bench.peers.measure import STANDARD

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Whether elements are closed in order, and all that refers to something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.references.append(value or "")
            if name == "id":
                self.names.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Made of the committed results."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    build(RESULTS, out, None)
    return out.read_text(encoding="utf-8")


def plots() -> list[Plot]:
    return [plot for section in read_all(RESULTS) if isinstance(section, Section) for plot in section.plots]


def test_it_is_well_formed_and_refers_to_nothing_outside(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert [reference for reference in reader.references if not reference.startswith("#")] == []
    assert len(set(reader.names)) == len(reader.names)
    assert {reference[1:] for reference in reader.references} <= set(reader.names)
    assert not re.search(r"(?i)https?:|@import|<script|<iframe|url\((?!#)", page)


def test_every_figure_has_a_title_and_a_caption_with_machine_durability_and_date(page: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == len(plots()) >= 8
    for figure in figures:
        assert re.search(r"<h3>[^<]+</h3>", figure)
        assert re.search(r'<svg role="img" aria-label="[^"]+" viewBox=', figure)
        caption = re.search(r"<figcaption>([^<]+)</figcaption>", figure)
        assert caption
        for said in ("cores", "SQLite", "durability", "20"):
            assert said in caption[1]


@pytest.mark.parametrize("plot", plots(), ids=lambda plot: plot.name)
def test_every_figure_has_labelled_axes_and_nothing_cut_off(plot: Plot) -> None:
    figure = theme.drawn(plot.draw, theme.LIGHT)
    figure.draw_without_rendering()
    assert figure.axes
    for axes in figure.axes:
        for text in [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts, *axes.get_yticklabels()]:
            place = text.get_window_extent()
            if text.get_text() and text.get_visible():
                assert place.x0 >= -1, text.get_text()
                assert place.x1 <= figure.bbox.x1 + 1, text.get_text()
    assert figure.axes[-1].get_xlabel()
    for axes in figure.axes:
        assert axes.get_ylabel() or axes.get_yticklabels()[0].get_text()


def test_colours_are_the_pages_own_so_that_it_can_be_light_or_dark(page: str) -> None:
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}", svgs)) == set()
    used = set(re.findall(r"var\(--(\w+)\)", svgs))
    assert {"ink", "grid", "paper", "first"} <= used
    style = page[: page.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    for name in used:
        assert len(re.findall(rf"--{name}:", style)) == (1 if name == "font" else 2)


def test_a_promise_is_marked_by_a_word_and_a_missed_one_stands_on_top(tmp_path: Path) -> None:
    result = json.loads((RESULTS / "idle.json").read_text(encoding="utf-8"))
    result["verdicts"][0] |= {"passed": False, "measured": "99 % <b>"}
    (tmp_path / "idle.json").write_text(json.dumps(result), encoding="utf-8")
    build(tmp_path, tmp_path / "r.html", None)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "0 of 1 promises kept" in page
    assert page.index("99 % &lt;b&gt;") < page.index("<main>")
    assert "✗ FAIL" in page


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "flat.json").write_text('{"machine": {}}', encoding="utf-8")
    (tmp_path / "wake.json").write_text("{", encoding="utf-8")
    missing = build(tmp_path, tmp_path / "r.html", None)
    assert [one.file for one in missing] == [source.file for source in SOURCES]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for source in SOURCES:
        assert source.command in page
        assert source.file in page
    assert "its content is of another form" in page


def test_the_committed_results_are_all_readable() -> None:
    unreadable = [one for one in read_all(RESULTS) if isinstance(one, Missing) and (RESULTS / one.file).exists()]
    assert unreadable == []


@pytest.fixture
def peers_page(tmp_path: Path) -> str:
    """Of three rounds of two groups; in one of them a peer lost a task."""
    machine = json.loads((RESULTS / "idle.json").read_text(encoding="utf-8"))["machine"]
    single = {"enqueue_p50": 20.0, "claim_p50": None, "batch": 1000.0}
    pairs = {"completed": 900.0, "enqueued": 1000.0, "longest": 5.0, "lost": 0.0, "twice": 0.0, "errors": 0.0}
    names = ["prismq", "prismq (full)", "litequeue", "huey"]
    loss = {"lost": 1.0}
    turns = [
        Turn(number, group, name, figures | (loss if (number, group, name) == (1, "pairs 2+2", "huey") else {}))
        for number in range(3)
        for group, figures in (("single", single), ("pairs 2+2", pairs))
        for name in names
    ]
    settings: dict[str, dict[str, object]] = {"huey": {"synchronous": 2}}
    contest = Contest(machine, STANDARD, [*names, "honker"], {"honker": "has no wheel"}, settings, turns)
    (tmp_path / "peers.json").write_text(json.dumps(asdict(contest)), encoding="utf-8")
    build(tmp_path, tmp_path / "r.html", None)
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_peers_stand_beside_those_of_the_same_durability(peers_page: str) -> None:
    captions = re.findall(r'<figure id="figure-peers-(\S+)-(normal|full)".*?<figcaption>([^<]+)', peers_page, re.DOTALL)
    assert [(key, durability) for key, durability, _ in captions] == [
        (key, durability)
        for key in ("enqueue-p50", "claim-p50", "batch", "completed", "longest")
        for durability in ("normal", "full")
    ]
    for _, durability, caption in captions:
        assert f"durability {durability};" in caption
    normal = peers_page.split('id="figure-peers-batch-normal"')[1].split("</figure>")[0]
    assert "litequeue" in normal
    assert "huey" not in normal


def test_what_peers_lost_is_summed_and_what_makes_them_incomparable_is_said(peers_page: str) -> None:
    (cells,) = re.findall(r"<tr><td[^>]*>huey</td>((?:<td[^>]*>[^<]*</td>){6})</tr>", peers_page)
    assert re.findall(r">([^<]*)</td>", cells)[3:] == ["1", "0", "0"]
    for said in ("huey: at most once", "synchronous 2", "Not measured: honker (has no wheel)"):
        assert said in peers_page


def test_the_command_writes_the_page_and_images_for_both_themes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    shutil.copy(RESULTS / "takeover.json", results)
    assert main(["report", "--out", str(tmp_path / "my.html"), "--results", str(results)]) == 0
    said = capsys.readouterr()
    assert "written: " in said.out
    assert "missing: Wake-up" in said.err
    arguments = ["--images", str(tmp_path / "some"), "--only", "nothing", "--results", str(results)]
    assert main(["report", "--out", str(tmp_path / "my.html"), *arguments]) == 0
    assert list((tmp_path / "some").iterdir()) == []
    images = sorted(path.name for path in (tmp_path / "my-images").iterdir())
    assert images == ["takeover-dark.png", "takeover-light.png"]
    for name in images:
        assert (tmp_path / "my-images" / name).read_bytes().startswith(b"\x89PNG")


def test_without_any_results_there_is_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", "--out", str(tmp_path / "my.html"), "--results", str(tmp_path / "empty")]) == 1
    said = capsys.readouterr()
    assert f"bench: no results in {tmp_path / 'empty'}" in said.err
    assert said.out == ""
    assert not (tmp_path / "my.html").exists()


def test_images_say_what_they_were_made_of(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "takeover.json", tmp_path)
    build(tmp_path, tmp_path / "r.html", tmp_path / "images")
    date = json.loads((tmp_path / "takeover.json").read_text(encoding="utf-8"))["machine"]["date"]
    for name in ("takeover-light.png", "takeover-dark.png"):
        assert theme.made_of(tmp_path / "images" / name) == f"takeover.json {date}"


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--results", str(tmp_path / "none")], ["--out", str(tmp_path / "none" / "r.html")]):
        with pytest.raises(SystemExit) as stopped:
            main(["report", *arguments])
        assert stopped.value.code == 2
        assert "no such folder" in capsys.readouterr().err
