"""The main job: real producers and workers on one queue file, measured, judged and accounted for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.machine import Facts, machine_facts
from bench.phase import Phase, run_phase
from bench.scenario import Scenario
from bench.targets import Verdict, judge

PhaseChoice = Literal["both", "closed", "paced"]
PACED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run found out."""

    machine: Facts
    scenario: Scenario
    phases: list[Phase]
    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Everything, latencies in unrounded milliseconds."""
        derived = ("capacity", "busy_share", "order_violations")
        return {
            "machine": self.machine,
            "scenario": asdict(self.scenario),
            "phases": [asdict(phase) | {name: getattr(phase, name) for name in derived} for phase in self.phases],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "passed": self.passed,
        }


def run_harness(scenario: Scenario, choice: PhaseChoice, folder: Path) -> Report:
    """Closed loop first, then paced at `scenario.rate` or, without one, at half the capacity just measured."""
    queue = scenario.open(folder / "facts.db")
    facts = machine_facts(folder, queue, scenario.durability)
    queue.close()
    phases = []
    rate = scenario.rate
    if choice != "paced":
        phases.append(run_phase("closed loop", replace(scenario, rate=None), folder / "closed"))
        rate = rate or PACED_SHARE * phases[0].capacity
    if choice != "closed" and rate:
        phases.append(run_phase(f"paced {rate:,.0f}/s", replace(scenario, rate=rate), folder / "paced"))
    return Report(facts, scenario, phases, judge(phases))
