"""The bundles that the tests ask for in the AArch64 user space, exported here, where torch is.

python -m arm64.bundles build/arm64/bundles
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from exports import draw_samples, export_bundle
from golden import GOLDEN, TAGS

# Precision, target, key-value cache.
OF_GOLDEN_MODELS = (
    ("fp32", "onnxruntime", "float"),
    ("int8", "onnxruntime", "float"),
    ("int8", "onnxruntime", "int8"),
)
OF_TAGS = (
    ("fp32", "onnxruntime", "float"),
    ("fp32", "tensorrt", "float"),
    ("int8", "onnxruntime", "float"),
)


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = draw_samples(folder)
    for variant in OF_TAGS:
        print(export_bundle(folder, data, TAGS, *variant).path, flush=True)
    for model in sorted((GOLDEN / "models").glob("*")):
        for variant in OF_GOLDEN_MODELS:
            print(export_bundle(folder, data, model, *variant).path, flush=True)


if __name__ == "__main__":
    main()
