"""The loads that `python -m bench run` knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Named:
    """A load and what it is about, in a line."""

    line: str
    load: Scenario


SCENARIOS: Mapping[str, Named] = {
    "steady": Named("2 producers, 2 workers, one kind of task", Scenario()),
    "burst": Named("the same arrivals, 50 at a time", Scenario(burst=50)),
    "backlog-drain": Named("20,000 tasks are waiting already", Scenario(backlog=20_000)),
    "many-producers": Named("12 producers, 2 workers", Scenario(producers=12)),
    "many-workers": Named("2 producers, 12 workers", Scenario(workers=12)),
    "mixed-payloads": Named(
        "payloads of 100 B, 4 KiB and 64 KiB", Scenario(payload_sizes=(100, 100, 100, 100, 4_096, 4_096, 4_096, 65_536))
    ),
    "mixed-types": Named("tasks of ten types", Scenario(types=tuple(f"type-{number}" for number in range(10)))),
    "delayed": Named("one task in four is to run half a second later", Scenario(delay_seconds=0.5)),
    "failing": Named("the first attempt at one task in five fails", Scenario(failing_every=5)),
    "held-reader": Named("a reader keeps a snapshot through the middle third", Scenario(held=True)),
    "crash": Named(
        "3 workers, one of them killed each second, leases 2 s",
        Scenario(workers=3, kill_seconds=1.0, lease_seconds=2.0),
    ),
}
