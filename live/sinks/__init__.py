"""Where answers go: one file a sink, and the options of ``vpt-watch`` that open them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vpt_edge.live.secret_file import read_address
from vpt_edge.live.sinks.display import Display
from vpt_edge.live.sinks.endpoint import read_secret
from vpt_edge.live.sinks.jsonl import JsonLines, JsonStream
from vpt_edge.live.sinks.mqtt import Mqtt
from vpt_edge.live.sinks.outputs import Outputs
from vpt_edge.live.sinks.recorder import Recorder
from vpt_edge.live.sinks.rtsp import Rtsp
from vpt_edge.live.sinks.snapshots import Snapshots
from vpt_edge.live.sinks.terminal import Terminal
from vpt_edge.live.sinks.video import Video
from vpt_edge.live.sinks.webhook import Webhook
from vpt_edge.runtime.errors import SinkError
from vpt_edge.runtime.manifest import read_manifest

if TYPE_CHECKING:
    from vpt_edge.live.sinks.sink import Sink
    from vpt_edge.live.sinks.subscription import Take
    from vpt_edge.runtime.options import AskOptions

STANDARD_OUTPUT = "-"
PICTURES = "OUT.mp4 or rtsp://@:8554/NAME or display://0"


@dataclass(frozen=True)
class Setting:
    """What a sink may have to know: the ``sources`` by their names, the ``questions``, at most how
    many frames a second are recorded (None: all), the ``bundle`` and the ``options`` of a question,
    and who takes requests, where they are wanted.
    """

    sources: Sequence[str]
    questions: Sequence[str]
    bundle: Path
    options: AskOptions
    rate: float | None = None
    take: Take | None = None


def open_outputs(targets: Mapping[str, str], setting: Setting) -> Outputs:
    """The sinks of ``targets``, by the names in SINKS, and the terminal's.

    Raises SinkError and VptError for a target where nothing can be written.
    """
    sinks = list[tuple[str, "Sink"]]()
    if targets.get("jsonl") != STANDARD_OUTPUT:
        terminal = Terminal(sys.stdout, len(setting.sources), len(setting.questions))
        sinks.append(("terminal", terminal))
    with ExitStack() as opened:
        for name, target in targets.items():
            for sink in SINKS[name](target, setting):
                opened.callback(sink.close)
                sinks.append((name, sink))
        opened.pop_all()
    return Outputs(sinks)


def _open_jsonl(target: str, setting: Setting) -> Iterator[Sink]:
    if target == STANDARD_OUTPUT:
        yield JsonStream(sys.stdout.buffer)
    else:
        yield JsonLines(target)


def _open_pictures(target: str, setting: Setting) -> Iterator[Sink]:
    """By the scheme of ``target``; a file where there is none."""
    scheme, separator, _ = target.partition("://")
    if not separator:
        yield from _open_videos(target, setting)
    elif scheme.lower() == "rtsp":
        yield Rtsp(target, setting.sources, setting.rate)
    elif scheme.lower() == "display":
        yield Display(target, setting.sources, setting.rate)
    else:
        raise SinkError("the scheme of --output is not known", f"expected {PICTURES}")


def _open_videos(target: str, setting: Setting) -> Iterator[Sink]:
    """One a source: out.mp4, out.2.mp4, …"""
    path = Path(target)
    for number, source in enumerate(setting.sources, 1):
        if number > 1:
            path = Path(target).with_suffix(f".{number}{Path(target).suffix}")
        yield Video(path, source, setting.rate)


def _open_snapshots(target: str, setting: Setting) -> Iterator[Sink]:
    yield Snapshots(target)


def _open_recording(target: str, setting: Setting) -> Iterator[Sink]:
    yield Recorder(target, read_manifest(setting.bundle), setting.options)


def _open_mqtt(target: str, setting: Setting) -> Iterator[Sink]:
    url = read_address(target)
    yield Mqtt(url, setting.sources, setting.questions, take=setting.take)


def _open_webhook(target: str, setting: Setting) -> Iterator[Sink]:
    yield Webhook(read_address(target), read_secret())


Opener: TypeAlias = "Callable[[str, Setting], Iterator[Sink]]"
SINKS: dict[str, Opener] = {
    "jsonl": _open_jsonl,
    "output": _open_pictures,
    "snapshots": _open_snapshots,
    "record": _open_recording,
    "mqtt": _open_mqtt,
    "webhook": _open_webhook,
}
