"""Results shown as the command that made them prints them, for a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import bare, costs, flat
from bench.accounting import Account
from bench.latency import Latency
from bench.machine import describe
from bench.phase import Phase
from bench.recorded import Recorded
from bench.report import LATENCY_HEADER, fact_rows, latency_rows, load_line
from bench.scenario import Scenario
from bench.table import table
from bench.verdicts import verdict_table


def main_job(result: Recorded) -> str:
    """Without its notes."""
    phases = phases_of(result)
    return _printed(
        describe(dict(result.machine)),
        load_line(Scenario(**result["scenario"])),
        table(LATENCY_HEADER, latency_rows(phases), left=2),
        table(("", *(phase.name for phase in phases)), fact_rows(phases)),
        verdict_table(result.verdicts),
    )


def bare_operations(result: Recorded) -> str:
    compared = [
        bare.Comparison(one["operation"], one["against"], one["ours"], one["theirs"]) for one in result["microseconds"]
    ]
    report = bare.BareReport(dict(result.machine), result["operations"], result["batch"], compared)
    return _printed(bare.render(report))


def depths(result: Recorded) -> str:
    depths, finished, delayed, operations = (result[name] for name in ("depths", "finished", "delayed", "operations"))
    rows = [flat.Row(row["operation"], row["p50"]) for row in result["rows"]]
    report = flat.FlatReport(dict(result.machine), depths, finished, delayed, operations, rows)
    return _printed(flat.render(report))


def designs(result: Recorded) -> str:
    counted = [
        costs.Cost(costs.Subject(**one["subject"]), one["wal_pages"], one["instructions"]) for one in result["costs"]
    ]
    return _printed(costs.render(costs.CostReport(dict(result.machine), result["operations"], counted)))


def phases_of(result: Recorded) -> list[Phase]:
    """As they were before they became JSON."""
    return [_phase(content) for content in result["phases"]]


def _phase(content: Mapping[str, Any]) -> Phase:
    fields = {name: content[name] for name in Phase.__slots__ if name in content and name != "curves"}
    latency = {name: Latency(**found) for name, found in content["latency"].items()}
    account = Account(**{"retried": 0} | content["account"])  # results from before there were retries have none
    return Phase(**{"has_order": True} | fields | {"latency": latency, "account": account})


def _printed(*parts: str) -> str:
    return "```\n" + "\n\n".join(parts) + "\n```"
