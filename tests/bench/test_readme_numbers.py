"""Every number of README and docs/numbers.md is what the committed results say, or what the code sets."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from interrupts import ROOT

from bench import bounds
from bench.command import main
from bench.options import RESULTS
from bench.page.theme import made_of
from bench.readme import BLOCK, BLOCKS, IMAGE, PAGES, README, Page, ReadmeError, outdated, renewed, stale
from bench.recorded import Recorded, read_all

TEXTS = {page: (ROOT / page.path).read_text(encoding="utf-8") for page in PAGES}
FOUND = [(page, found["name"]) for page in PAGES for found in BLOCK.finditer(TEXTS[page])]
TEXT = TEXTS[README]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    folder = tmp_path / "results"
    shutil.copytree(RESULTS, folder)
    return folder


def change(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changes), encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_the_pages_say_what_was_measured(page: Page) -> None:
    assert stale(TEXTS[page], page, RESULTS) == [], "run: python -m bench readme"


def test_every_block_is_shown_and_every_link_leads_to_a_result() -> None:
    assert {name for _, name in FOUND} == set(BLOCKS)
    for page, text in TEXTS.items():
        links = re.findall(r"\]\(([\w./-]+\.json)\)", text)
        assert links
        assert all(((ROOT / page.path).parent / link).is_file() for link in links)


@pytest.mark.parametrize(("page", "name"), FOUND, ids=lambda one: one if isinstance(one, str) else one.path)
def test_a_number_that_was_changed_by_hand_is_found(page: Page, name: str) -> None:
    block = next(found[0] for found in BLOCK.finditer(TEXTS[page]) if found["name"] == name)
    last = list(re.finditer(r"\d", block))[-1]
    changed = block[: last.start()] + str((int(last[0]) + 1) % 10) + block[last.end() :]
    text = TEXTS[page].replace(block, changed)
    assert stale(text, page, RESULTS) == [name]
    assert renewed(text, page, RESULTS) == TEXTS[page]


def test_new_results_make_it_stale(results: Path) -> None:
    content = json.loads((results / "pairs.json").read_text(encoding="utf-8"))
    content["contests"][0]["figures"]["prismq"]["operations"] += 1000
    (results / "pairs.json").write_text(json.dumps(content), encoding="utf-8")
    assert [name for page in PAGES for name in stale(TEXTS[page], page, results)] == ["main", "pairs"]


def test_a_target_that_is_missed_is_said(results: Path) -> None:
    verdict = {"promise": "nothing is late", "measured": "all is", "passed": False}
    change(results / "workers.json", command="python -m bench workers", verdicts=[verdict], passed=False)
    text = renewed(TEXT, README, results)
    assert "- [`python -m bench workers`](bench/results/workers.json): nothing is late; measured all is\n" in text


def test_the_command_that_is_named_is_the_one_that_made_it(results: Path) -> None:
    change(results / "contend.json", command="python -m bench contend --rounds 7")
    assert "[`python -m bench contend --rounds 7`](bench/results/contend.json)" in renewed(TEXT, README, results)
    (results / "flat.json").write_text("{}", encoding="utf-8")
    assert Recorded.read(results / "flat.json").command == "python -m bench flat"
    hammer = Recorded.read(results / "hammer-kill.json").command
    assert hammer == "python -m bench --producers 4 --workers 4 --seconds 60 --phase closed --kill-workers 1"


# -- outside of blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prose", "number"),
    [
        ("A claim takes 0.655 ms.", "0.655 ms"),
        ("with 59 workers killed", "59"),
        ("about 0.9 of it", "0.9"),
        ("1,133 times as long", "1,133 times"),
        ("12% of a core", "12%"),
        ("up to 70 MB", "70 MB"),
        ("30 to 40 us", "30 to 40 us"),
        ("18,163/s", "18,163/s"),
        ("it takes `88 ms`", "88 ms"),
        ("```python\nsleep()  # 3 s\n```", "3 s"),
        ("| calls/s | 21,074 |", "21,074"),
    ],
)
def test_no_other_number_stands_in_prose(prose: str, number: str) -> None:
    assert bounds.unbacked(prose) == [number]
    for page in PAGES[:2]:
        with pytest.raises(ReadmeError, match=rf"{page.path}: {re.escape(number)}: in prose, but neither"):
            renewed(f"{TEXTS[page]}\n{prose}\n", page, RESULTS)


def test_what_is_no_amount_may_stand_there() -> None:
    said = "p50 of sqlite3, `--seconds 60`, [x](1.json), <b width=5>, utf-8"
    assert bounds.unbacked(f"{said}\n```python\nqueue.claim('w-1', wait=10)\n```\n") == []


def test_bounds_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    prose = BLOCK.sub("", TEXT)
    assert all(bound in prose for bound in bounds.bounds())
    monkeypatch.setattr(bounds, "LONGEST_POLL_SECONDS", 0.03)
    assert bounds.unbacked(prose) == ["20 ms"]
    with pytest.raises(LookupError, match="no NOTHING_LIKE_IT in native"):
        bounds._set("gate.c", "NOTHING_LIKE_IT")


def test_a_block_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ReadmeError, match=r"README.md: there is no block 'dreams'"):
        renewed("<!-- numbers dreams -->\n| 1 |\n<!-- end of numbers -->\n", README, RESULTS)


# -- images -----------------------------------------------------------------------------------------------------------


def test_images_are_as_new_as_what_they_show() -> None:
    assert len(set(IMAGE.findall(TEXT))) == 4
    assert list(outdated(TEXT, ROOT, RESULTS)) == [], "run: python -m bench report --images docs/images --only NAMES"


def test_images_of_older_results_are_found(results: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    content = json.loads((results / "scale.json").read_text(encoding="utf-8"))
    change(results / "scale.json", machine=content["machine"] | {"date": "2031-01-01T00:00:00+00:00"})
    old = ["docs/images/scale-normal-dark.png", "docs/images/scale-normal-light.png"]
    assert list(outdated(TEXT, tmp_path, results)) == old
    silent = tmp_path / "docs" / "images" / "latency-normal-dark.png"
    silent.write_bytes(silent.read_bytes().replace(b"tEXtSource", b"tEXtSilent"))
    assert made_of(silent) == ""
    assert list(outdated(TEXT, tmp_path, results)) == ["docs/images/latency-normal-dark.png", *old]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "README.md"
    mine.write_text(TEXT.replace("| longest call of all rounds |", "| longest |"), encoding="utf-8")
    assert main(["readme", "--check", "--readme", str(mine)]) == 1
    assert capsys.readouterr().out == "README.md, other than the results: main\n"
    assert main(["readme", "--readme", str(mine)]) == 0
    assert capsys.readouterr().out == "README.md, written anew: main\n"
    assert mine.read_text(encoding="utf-8") == TEXT
    assert main(["readme", "--check", "--readme", str(mine)]) == 0
    assert main(["readme", "--readme", str(tmp_path / "none.md")]) == 1
    assert "none.md" in capsys.readouterr().err


def test_all_pages_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["readme", "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_every_committed_result_can_be_read() -> None:
    names = [one.name for one in read_all(RESULTS)]
    assert {name for block in BLOCKS.values() for name in block.results or ()} <= set(names)
    assert all(one.date for one in read_all(RESULTS))
