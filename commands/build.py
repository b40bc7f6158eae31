"""vpt-build: make TensorRT plans of a bundle's graphs, on the device that runs them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.console import exit_code
from vpt_edge.runtime.errors import SessionError, VptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.engines.build import Survey, Task

DEVICES = ("tensorrt", "tensorrt-rtx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for what went wrong, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vpt-build",
        description="Build TensorRT plans of a bundle, on the machine that will run them.",
    )
    parser.add_argument(
        "bundle",
        help="folder written by vpt-export --target tensorrt; plans go to its folder plans",
    )
    parser.add_argument(
        "--device",
        default="tensorrt",
        help=f"what will run the plans: {' or '.join(DEVICES)} (default tensorrt)",
    )
    parser.add_argument(
        "--workspace",
        type=int,
        metavar="MIB",
        help="the most memory that a layer may use for scratch (default: what is free; no limit for tensorrt-rtx)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only list what would be built, and why"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _run(options: argparse.Namespace) -> None:
    from vpt_edge.engines.build import survey
    from vpt_edge.runtime.bundle import Bundle

    if options.device not in DEVICES:
        raise SessionError(
            f"device {options.device!r} is unknown, expected one of: {', '.join(DEVICES)}"
        )
    if options.workspace is not None and options.workspace < 1:
        raise VptError(f"--workspace is {options.workspace} MiB, expected at least 1")
    began = time.monotonic()
    found = survey(Bundle.open(options.bundle), options.device)
    workspace = None if options.workspace is None else options.workspace << 20
    made = {} if options.dry_run else _build(found, workspace, quiet=options.json)
    if options.json:
        print(json.dumps(_summary(found, made, options.dry_run, time.monotonic() - began)))
    elif options.dry_run:
        _print_survey(found)
    else:
        _print_summary(found, made, time.monotonic() - began)


def _build(found: Survey, workspace: int | None, quiet: bool) -> dict[str, dict[str, Any]]:
    """Build what is not up to date; returns what is to be said of each new plan."""
    from vpt_edge.engines import resources
    from vpt_edge.engines.build import build, pending
    from vpt_edge.engines.progress import Bar

    tasks, made = pending(found.tasks), dict[str, dict[str, Any]]()
    if tasks:
        resources.check([task.need for task in tasks], found.bundle.path, found.gpu_free)
    bar = Bar(quiet)
    try:
        for index, task in enumerate(tasks, 1):
            title = f"{index}/{len(tasks)} {task.name}"
            bar.begin()
            bar.show(title, "Starting", 0.0)
            made[task.name] = build(
                found, task, workspace, lambda *done, title=title: bar.show(title, *done)
            )
    finally:
        bar.clear()
    return made


def _summary(
    found: Survey, made: dict[str, dict[str, Any]], dry_run: bool, seconds: float
) -> dict[str, Any]:
    plans = [
        {
            "graph": task.name,
            "plan": str(task.plan),
            "profiles": [profile.name for profile in task.profiles],
            "estimated_memory": task.need.memory,
            "reason": task.reason or None,
            "built": task.name in made,
            **made.get(task.name, {}),
        }
        for task in found.tasks
    ]
    platform = dataclasses.asdict(found.platform)
    return {
        "bundle": str(found.bundle.path),
        "platform": platform,
        "dry_run": dry_run,
        "plans": plans,
        "seconds": round(seconds, 3),
    }


def _print_survey(found: Survey) -> None:
    from vpt_edge.engines.build import pending

    print(f"{found.bundle.path} for {found.platform}")
    for task in found.tasks:
        print(f"  {task.name:<22}{_state(task)}")
        print(f"  {'':<22}about {task.need.memory >> 20:,} MiB of memory; {_names(task)}")
    count = len(pending(found.tasks))
    print(f"{count} of {len(found.tasks)} plans to build" if count else "nothing to build")


def _print_summary(found: Survey, made: dict[str, dict[str, Any]], seconds: float) -> None:
    print(f"{found.tasks[0].plan.parent} for {found.platform}")
    for task in found.tasks:
        size = task.plan.stat().st_size
        time_taken = (
            f"{made[task.name]['seconds']:.1f} s, {task.reason}"
            if task.name in made
            else "up to date"
        )
        print(f"  {task.plan.name:<28}{size:>16,} bytes  {time_taken}; {_names(task)}")
    print(f"{len(made)} built, {len(found.tasks) - len(made)} kept, {seconds:.1f} s")
    triggered = " --perception region" if found.bundle.manifest.prompt_triggered else ""
    print(
        f"next: vpt-run {found.bundle.path} PICTURE 'QUESTION' --device {found.platform.library}{triggered}"
    )


def _state(task: Task) -> str:
    return f"to build: {task.reason}" if task.reason else "up to date"


def _names(task: Task) -> str:
    return f"profiles: {', '.join(profile.name for profile in task.profiles)}"


if __name__ == "__main__":
    sys.exit(main())
