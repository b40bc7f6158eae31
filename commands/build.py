"""vpt-build: make TensorRT plans of a bundle's graphs, on the device that runs them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from vpt_edge.commands.bar import Bar
from vpt_edge.commands.console import Parser, exit_code, say, say_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vpt_edge.engines.build import Survey, Task

DEVICES = ("tensorrt", "tensorrt-rtx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for what went wrong, 130 after Ctrl-C."""
    return exit_code(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(
        "vpt-build", "Build TensorRT plans of a bundle, on the machine that will run them."
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
        help="the most memory that a layer may use for scratch (default: what is free; "
        "no limit for tensorrt-rtx)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only list what would be built, and why"
    )
    parser.add_json("print one JSON object at the end")
    return parser


def _run(options: argparse.Namespace) -> None:
    from vpt_edge.engines.build import survey
    from vpt_edge.runtime.bundle import Bundle

    _check(options)
    began = time.monotonic()
    work = survey(Bundle.open(options.bundle), options.device)
    built = dict[str, dict[str, Any]]()
    if not options.dry_run:
        workspace = None if options.workspace is None else options.workspace << 20
        built = _build(work, workspace)
    seconds = time.monotonic() - began
    if options.json:
        say_json(_summary(work, built, options.dry_run, seconds))
    elif options.dry_run:
        _print_survey(work)
    else:
        _print_summary(work, built, seconds)


def _check(options: argparse.Namespace) -> None:
    from vpt_edge.runtime.errors import SessionError, VptError

    if options.device not in DEVICES:
        raise SessionError(
            f"device {options.device!r} is unknown, expected one of: {', '.join(DEVICES)}"
        )
    if options.workspace is not None and options.workspace < 1:
        raise VptError(f"--workspace is {options.workspace} MiB, expected at least 1")


def _build(survey: Survey, workspace: int | None) -> dict[str, dict[str, Any]]:
    """Build what is not up to date, with at most ``workspace`` bytes of scratch.

    Returns what is to be said of each new plan.
    """
    from vpt_edge.engines.build import build, check_resources, lock_plans

    check_resources(survey)
    built = dict[str, dict[str, Any]]()
    with lock_plans(survey), Bar() as bar:
        for number, task in enumerate(survey.pending, 1):
            title = f"{number}/{len(survey.pending)} {task.name}"

            def watch(stage: str, done: float, title: str = title) -> None:
                bar.show(title, done, stage)

            bar.begin()
            watch("Starting", 0.0)
            built[task.name] = build(survey, task, workspace, watch)
    return built


def _summary(
    survey: Survey, built: dict[str, dict[str, Any]], dry_run: bool, seconds: float
) -> dict[str, Any]:
    import dataclasses

    plans = list[dict[str, Any]]()
    for task in survey.tasks:
        plan = {
            "graph": task.name,
            "plan": str(task.plan),
            "profiles": [profile.name for profile in task.profiles],
            "estimated_memory": task.need.memory,
            "reason": task.reason or None,
            "built": task.name in built,
        }
        plans.append({**plan, **built.get(task.name, {})})
    return {
        "bundle": str(survey.bundle.path),
        "platform": dataclasses.asdict(survey.platform),
        "dry_run": dry_run,
        "plans": plans,
        "seconds": round(seconds, 3),
    }


def _print_survey(survey: Survey) -> None:
    say(f"{survey.bundle.path} for {survey.platform}")
    for task in survey.tasks:
        state = f"to build: {task.reason}" if task.reason else "up to date"
        say(f"  {task.name:<22}{state}")
        say(f"  {'':<22}about {task.need.memory >> 20:,} MiB of memory; {_profiles(task)}")
    count = len(survey.pending)
    if count:
        say(f"{count} of {len(survey.tasks)} plans to build")
    else:
        say("nothing to build")


def _print_summary(survey: Survey, built: dict[str, dict[str, Any]], seconds: float) -> None:
    from vpt_edge.runtime.perception import open_perception

    say(f"{survey.tasks[0].plan.parent} for {survey.platform}")
    for task in survey.tasks:
        state = "up to date"
        if task.name in built:
            state = f"{built[task.name]['seconds']:.1f} s, {task.reason}"
        size = task.plan.stat().st_size
        say(f"  {task.plan.name:<28}{size:>16,} bytes  {state}; {_profiles(task)}")
    say(f"{len(built)} built, {len(survey.tasks) - len(built)} kept, {seconds:.1f} s")
    command = f"vpt-run {survey.bundle.path} PICTURE 'QUESTION' --device {survey.platform.library}"
    mode = open_perception(survey.bundle.manifest).usual_mode
    if mode != "free":
        command += f" --perception {mode}"
    say(f"next: {command}")


def _profiles(task: Task) -> str:
    names = ", ".join(profile.name for profile in task.profiles)
    return f"profiles: {names}"


if __name__ == "__main__":
    sys.exit(main())
