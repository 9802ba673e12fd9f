"""`prismq doctor`: is the queue healthy?"""

from __future__ import annotations

import argparse

from prismq.cli import exits, options, output

MARKS = {"ok": "ok", "warning": "WARN", "failure": "FAIL"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = options.add_command(
        commands,
        "doctor",
        run,
        help="is the queue healthy? status 1 if not",
        description="Look at a queue, its place and this machine. The database is only read; how fast commits are is"
        " measured on a scratch database beside it. The exit status is 1 if anything fails, with --strict also if"
        " there is a warning.",
        examples="prismq doctor\nprismq doctor --strict --json\nprismq doctor --integrity --no-measure",
    )
    parser.add_argument("--integrity", action="store_true", help="read all of the file")
    parser.add_argument("--no-measure", action="store_true", help="don't measure commits")
    parser.add_argument("--strict", action="store_true", help="a warning is unhealthy, too")


def run(arguments: argparse.Namespace) -> int:
    """Print each finding as it is made."""
    from prismq.doctor import diagnose

    path = options.existing_path(arguments)
    findings = []
    for finding in diagnose(path, measure=not arguments.no_measure, integrity=arguments.integrity):
        findings.append(finding)
        if not arguments.json:
            print(f"{MARKS[finding.verdict]:<4}  {finding.name:<17}  {finding.found}", flush=True)
            if finding.advice:
                print(f"{'':<25}-> {finding.advice}", flush=True)
    verdicts = {finding.verdict for finding in findings}
    healthy = "failure" not in verdicts and not (arguments.strict and "warning" in verdicts)
    if arguments.json:
        output.print_json({"database": path, "healthy": healthy, "findings": [vars(finding) for finding in findings]})
    else:
        print(f"{path} is {'healthy' if healthy else 'NOT healthy'}")
    return exits.OK if healthy else exits.REFUSED
