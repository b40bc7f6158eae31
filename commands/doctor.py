"""vpt-doctor: what this machine can run, and the command that mends what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vpt_edge.commands.console import Parser, exit_code, say, say_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vpt_edge.device.machine import Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 if nothing can run here, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser("vpt-doctor", "Say what this machine can run, and how to mend what is missing.")
    parser.add_argument("bundle", nargs="?", help="folder written by vpt-export: can it run here?")
    parser.add_json("print one JSON object instead of the lines")
    return parser


def _run(options: argparse.Namespace) -> None:
    import dataclasses

    from vpt_edge.device.cameras import list_cameras
    from vpt_edge.device.doctor import examine
    from vpt_edge.runtime.errors import SessionError

    findings, devices = examine(options.bundle)
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        cameras = [dataclasses.asdict(camera) for camera in list_cameras()]
        say_json({"findings": rows, "devices": devices, "cameras": cameras})
    else:
        _print_findings(findings)
        say(f"runs here: {', '.join(devices) or 'nothing'}")
    if not devices:
        raise SessionError(
            f"{options.bundle or 'a bundle'} cannot run here", "mend what is missing above"
        )


def _print_findings(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        say(f"{finding.state:7}  {finding.check:{width}}  {finding.found}")
        if finding.fix:
            say(f"{'':7}  {'':{width}}  -> {finding.fix}")


if __name__ == "__main__":
    sys.exit(main())
