"""Peak memory of observing few and many samples: it does not grow.

python benchmarks/calibration.py build/demo-bundle-fp32 --samples 64 512
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from vpt_edge.calibration.collect import Collector
from vpt_edge.calibration.model import BundleModel
from vpt_edge.calibration.recorder import ActivationRecorder
from vpt_edge.calibration.samples import read_samples
from vpt_edge.runtime import Bundle


def observe(bundle: Bundle, data: str, count: int) -> int:
    """Peak memory of this process in KiB after ``count`` samples."""
    samples = read_samples(data).samples[:count]
    assert len(samples) == count, f"only {len(samples)} samples in {data}"
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(BundleModel(bundle), samples, Path(folder) / "ranges.json")
        collector.run("ranges", ActivationRecorder())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of calibration by number of samples.")
    parser.add_argument("bundle", help="a float bundle")
    parser.add_argument("--data", default="build/calibration/data.jsonl")
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 512])
    options = parser.parse_args()
    if len(options.samples) == 1:
        print(observe(Bundle.open(options.bundle), options.data, options.samples[0]))
        return
    for count in options.samples:  # each in a process of its own: the peak of a process never falls
        command = [
            sys.executable,
            __file__,
            options.bundle,
            "--data",
            options.data,
            "--samples",
            str(count),
        ]
        kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{count} samples: {kib / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
