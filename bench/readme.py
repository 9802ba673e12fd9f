"""Pages whose numbers are made from the committed results, so that they can't say anything else.

A block stands between `<!-- numbers NAME -->` and `<!-- end of numbers -->`. Outside of blocks README and
docs/numbers.md hold no number but those of bounds.py. The README's images say in themselves of which results they were
made.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import blocks, main_numbers, printed
from bench.bounds import unbacked
from bench.findings import Findings
from bench.options import RESULTS
from bench.page.theme import made_of
from bench.recorded import Recorded, read_all

ROOT = RESULTS.parents[1]
END = "<!-- end of numbers -->"
BLOCK = re.compile(r"<!-- numbers (?P<name>[\w-]+)[^>]* -->\n.*?<!-- end of numbers -->", re.DOTALL)
IMAGE = re.compile(r"[\w./-]+\.png")
RENEW_IMAGES = "python -m bench report --images docs/images --only latency-normal scale-normal"
LINE = "the numbers of README, docs/numbers.md and bench/RESULTS.md"


class ReadmeError(Exception):
    """A page has a block that there is none of, a number that no results make, or an image of older results."""


@dataclass(frozen=True, slots=True)
class Block:
    """What is made of the results of these names, or of all. `signed`: below it stands which command made them."""

    results: Sequence[str] | None
    render: Callable[..., str]
    signed: bool = True

    def text(self, results: Path, seen_from_page: str) -> str:
        if self.results is None:
            found = read_all(results, seen_from_page)
        else:
            found = [Recorded.read(results / f"{name}.json", seen_from_page) for name in self.results]
        made = "; ".join(f"{one.made_by}, {one.date[:10]}" for one in found)
        return self.render(*found) + (f"\n\nMade by {made}." if self.signed else "")


BLOCKS: Mapping[str, Block] = {
    "main": Block(main_numbers.MAIN, main_numbers.main, signed=False),
    "machines": Block(main_numbers.MAIN, main_numbers.machines, signed=False),
    "missed": Block(None, main_numbers.missed, signed=False),
    "all-machines": Block(None, main_numbers.machines, signed=False),
    "run-normal": Block(("run-normal",), printed.main_job),
    "run-full": Block(("run-full",), printed.main_job),
    "hammer": Block(("hammer", "hammer-kill"), blocks.hammer),
    "bare": Block(("bare",), blocks.bare),
    "bare-printed": Block(("bare",), printed.bare_operations),
    "costs-printed": Block(("costs",), printed.designs),
    "flat": Block(("flat",), blocks.flat),
    "flat-printed": Block(("flat",), printed.depths),
    "contention": Block(("contend",), blocks.contention),
    "together": Block(("group",), blocks.together),
    "fewer": Block(("group",), blocks.fewer),
    "scale": Block(("scale",), blocks.scale),
    "pairs": Block(("pairs",), blocks.pairs),
    "waking": Block(("wake", "idle"), blocks.waking),
    "steadiness": Block(("steady", "soak", "takeover"), blocks.steadiness),
    "peers": Block(("peers",), blocks.peers),
    "promises": Block(("workers", "metrics", "backup", "prune", "steady", "soak", "takeover"), blocks.promises, False),
}


@dataclass(frozen=True, slots=True)
class Page:
    """`results` is where they are, seen from the page; `strict`: its prose has no number of its own."""

    path: str
    results: str
    strict: bool = True


README = Page("README.md", "bench/results/")
PAGES = (README, Page("docs/numbers.md", "../bench/results/"), Page("bench/RESULTS.md", "results/", strict=False))


def renewed(text: str, page: Page, results: Path) -> str:
    """The page with each block as the results have it. ReadmeError."""

    def renew(found: re.Match[str]) -> str:
        block = BLOCKS.get(found["name"])
        if block is None:
            raise ReadmeError(f"{page.path}: there is no block {found['name']!r} (there are {', '.join(BLOCKS)})")
        return f"<!-- numbers {found['name']} -->\n{block.text(results, page.results)}\n{END}"

    numbers = unbacked(BLOCK.sub("", text)) if page.strict else []
    if numbers:
        raise ReadmeError(
            f"{page.path}: {', '.join(numbers)}: in prose, but neither made from results nor a bound that the code sets"
        )
    return BLOCK.sub(renew, text)


def stale(text: str, page: Page, results: Path) -> list[str]:
    """Names of the blocks that say something else than the results."""
    now = {found["name"]: found[0] for found in BLOCK.finditer(text)}
    then = {found["name"]: found[0] for found in BLOCK.finditer(renewed(text, page, results))}
    return [name for name, said in now.items() if then[name] != said]


def outdated(text: str, root: Path, results: Path) -> Iterator[str]:
    """Images of the page, its paths from `root`, that were not made of these results."""
    dates = {one.file.name: one.date for one in read_all(results)}
    for path in dict.fromkeys(IMAGE.findall(text)):
        name, _, date = made_of(root / path).partition(" ")
        if not date or dates.get(name) != date:
            yield path


def add_options(parser: ArgumentParser) -> None:
    parser.description = (
        "Writes the numbers of README, docs/numbers.md and bench/RESULTS.md anew from the committed results: what"
        " stands between <!-- numbers NAME --> and <!-- end of numbers -->. Says which images of the README are of"
        " other results."
    )
    parser.epilog = (
        "exit status: 0 as the results have it, 1 it is not, or has a number that neither results nor the code make"
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only say what would be changed")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="this file alone, as if it were README.md")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default bench/results)")


def run(options: Namespace, folder: Path) -> Findings:
    files = {README: options.readme} if options.readme else {page: ROOT / page.path for page in PAGES}
    lines, kept = [], True
    for page, file in files.items():
        try:
            text = file.read_text(encoding="utf-8")
            different = stale(text, page, options.results)
            if different and not options.check:
                file.write_text(renewed(text, page, options.results), encoding="utf-8", newline="\n")
            old = list(outdated(text, ROOT, options.results)) if page is README else []
        except OSError as error:
            raise ReadmeError(str(error)) from error
        said = "other than the results" if options.check else "written anew"
        lines += [f"{page.path}, {said}: {name}" for name in different]
        lines += [f"{path}, of other results: {RENEW_IMAGES}" for path in old]
        kept &= not old and not (different and options.check)
    return Findings("\n".join(lines), {}, kept)
