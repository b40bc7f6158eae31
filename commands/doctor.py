"""vpt-doctor: what this machine can run, and the command that mends what is missing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from vpt_edge.commands.console import exit_code
from vpt_edge.device.doctor import examine
from vpt_edge.runtime.errors import SessionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 if nothing can run here, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vpt-doctor",
        description="Say what this machine can run, and how to mend what is missing.",
    )
    parser.add_argument("bundle", nargs="?", help="folder written by vpt-export: can it run here?")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the lines"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    findings, devices = examine(options.bundle)
    if options.json:
        print(
            json.dumps(
                {"findings": [dataclasses.asdict(each) for each in findings], "devices": devices}
            )
        )
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            print(f"{finding.state:7}  {finding.check:{width}}  {finding.found}")
            if finding.mend:
                print(f"{'':7}  {'':{width}}  -> {finding.mend}")
        print(f"runs here: {', '.join(devices) or 'nothing'}")
    if not devices:
        raise SessionError(
            f"{options.bundle or 'a bundle'} cannot run here; mend what is missing above"
        )


if __name__ == "__main__":
    sys.exit(main())
