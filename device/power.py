"""What the board tells of its clocks, and of the energy that its rails take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from vpt_edge.runtime import host
from vpt_edge.runtime.host import text_of

LABELS = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"  # the sensors of a Jetson
INTERVAL = 0.1  # seconds; a sensor averages about as long itself


def clocks() -> str:
    """The range that each processor's clock is left, in MHz, and its governor; empty where nothing
    tells them."""
    found = list[str]()
    for name, pattern, per_mhz in (
        ("CPU", "sys/devices/system/cpu/cpufreq/policy*/scaling_", 1000),
        ("GPU", "sys/class/devfreq/*gpu*/", 1000_000),
    ):
        for path in sorted(host.ROOT.glob(f"{pattern}governor")):
            least, most = (
                text_of(str(path).replace("governor", f"{end}_freq")) for end in ("min", "max")
            )
            if least.isdigit() and most.isdigit():
                text = f"{name} {int(least) // per_mhz} to {int(most) // per_mhz} MHz ({text_of(str(path))})"
                found += [] if text in found else [text]
    return ", ".join(found)


class Meter:
    """Counts ``joules`` by power rail, and ``seconds``, while its block runs; nothing where the
    board has no sensors.

    One rail may feed another, as VDD_IN does: they do not add up. A rail that cannot be read once
    is left out."""

    def __init__(self) -> None:
        self._rails = dict(_rails())
        self.joules = dict.fromkeys(self._watts(), 0.0)
        self.seconds = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, name="vpt-bench power", daemon=True)

    def __enter__(self) -> Meter:
        if self.joules:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _count(self) -> None:
        then, before, ended = time.perf_counter(), self._watts(), False
        while not ended:
            ended = self._ended.wait(INTERVAL)
            now, watts = time.perf_counter(), self._watts()
            self.joules = {
                rail: joules + (now - then) * (before[rail] + watts[rail]) / 2
                for rail, joules in self.joules.items()
                if rail in before and rail in watts
            }
            self.seconds += now - then
            then, before = now, watts

    def _watts(self) -> dict[str, float]:
        """What each rail takes now."""
        read = {
            rail: (text_of(volts), text_of(amperes))
            for rail, (volts, amperes) in self._rails.items()
        }
        return {
            rail: int(millivolts) * int(milliamperes) / 1e6
            for rail, (millivolts, milliamperes) in read.items()
            if millivolts.isdigit() and milliamperes.lstrip("-").isdigit()
        }


def _rails() -> Iterator[tuple[str, tuple[str, str]]]:
    """Each rail's name, and the files of its millivolts and milliamperes."""
    for path in sorted(host.ROOT.glob(LABELS)):
        number, name = path.name[len("in") : -len("_label")], text_of(str(path))
        volts, amperes = path.with_name(f"in{number}_input"), path.with_name(f"curr{number}_input")
        if (
            name not in ("", "NC") and amperes.exists()
        ):  # not connected; the sum over all channels has no current
            yield name, (str(volts), str(amperes))
