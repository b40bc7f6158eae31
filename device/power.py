"""What the board tells of its clocks, and of the energy that its rails take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from vpt_edge.runtime import host
from vpt_edge.runtime.host import text_of

LABELS = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"  # the sensors of a Jetson
CLOCKS = (  # name, where its files are, units a MHz
    ("CPU", "sys/devices/system/cpu/cpufreq/policy*/scaling_", 1000),
    ("GPU", "sys/class/devfreq/*gpu*/", 1000_000),
)
INTERVAL = 0.1  # seconds; a sensor averages about as long itself


def read_clocks() -> str:
    """The range that each processor's clock is left, in MHz, and its governor; empty where nothing
    tells them.
    """
    texts = list[str]()
    for name, pattern, per_mhz in CLOCKS:
        for path in sorted(host.ROOT.glob(f"{pattern}governor")):
            text = _read_clock(str(path), per_mhz)
            if text and f"{name} {text}" not in texts:
                texts.append(f"{name} {text}")
    return ", ".join(texts)


def _read_clock(governor: str, per_mhz: int) -> str:
    """The range of one clock, by the file that names its governor."""
    least = text_of(governor.replace("governor", "min_freq"))
    most = text_of(governor.replace("governor", "max_freq"))
    if not least.isdigit() or not most.isdigit():
        return ""
    return f"{int(least) // per_mhz} to {int(most) // per_mhz} MHz ({text_of(governor)})"


class Meter:
    """Counts ``joules`` by power rail, and ``seconds``, while its block runs; nothing where the
    board has no sensors.

    One rail may feed another, as VDD_IN does: they do not add up. A rail that cannot be read once
    is left out.
    """

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
        then = time.perf_counter()
        before = self._watts()
        ended = False
        while not ended:
            ended = self._ended.wait(INTERVAL)
            now = time.perf_counter()
            watts = self._watts()
            self.joules = {
                rail: joules + (now - then) * (before[rail] + watts[rail]) / 2
                for rail, joules in self.joules.items()
                if rail in before and rail in watts
            }
            self.seconds += now - then
            then = now
            before = watts

    def _watts(self) -> dict[str, float]:
        """What each rail takes now."""
        watts = dict[str, float]()
        for rail, (volts, amperes) in self._rails.items():
            millivolts = text_of(volts)
            milliamperes = text_of(amperes)
            if millivolts.isdigit() and milliamperes.lstrip("-").isdigit():
                watts[rail] = int(millivolts) * int(milliamperes) / 1e6
        return watts


def _rails() -> Iterator[tuple[str, tuple[str, str]]]:
    """Each rail's name, and the files of its millivolts and milliamperes."""
    for path in sorted(host.ROOT.glob(LABELS)):
        number = path.name[len("in") : -len("_label")]
        name = text_of(str(path))
        volts = path.with_name(f"in{number}_input")
        amperes = path.with_name(f"curr{number}_input")
        # NC is not connected; the sum over all channels has no current.
        if name not in ("", "NC") and amperes.exists():
            yield name, (str(volts), str(amperes))
