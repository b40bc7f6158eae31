"""Walk a Dockerfile in a chroot, then use what came of it: make image-steps, as root."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from random import Random

from golden import ROOT

from images.walk import Walk, walk
from vpt_edge.live.scenes import scene

SEED = 6  # of a picture about which the model of tests/tags is right
BUILD_TOOLS = ("gcc", "cc", "make", "pip", "pip3", "git")


def main() -> None:
    parser = argparse.ArgumentParser(prog="images", description=__doc__)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="folder in the place of its FROM")
    parser.add_argument("--bundle", type=Path, required=True, help="folder that vpt-export wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "image")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    image = walk(options.dockerfile, options.base, ROOT, options.out)
    with image.mounted():
        use(image, options.bundle)
    print("all steps done, and all questions answered")


def use(image: Walk, bundle: Path) -> None:
    """As the image's user: the versions, what the doctor says, and an answer."""
    place = image.root / "data"
    shutil.copytree(bundle, place / "bundle", dirs_exist_ok=True)
    picture, samples = scene(Random(SEED))
    picture.save(place / "picture.png")
    print(image.run(["vpt-run", "--version"]).strip())
    assert image.run(["id", "-u"]).strip() == "10001"
    for module in ("torch", "onnx", "pip"):
        code = f"import importlib.util; print(importlib.util.find_spec({module!r}))"
        assert image.run(["python", "-c", code]).strip() == "None", module
    tools = "for tool; do command -v $tool; done; true"
    found = image.run(["/bin/sh", "-c", tools, "sh", *BUILD_TOOLS]).split()
    assert found == [], found
    report = json.loads(image.run(["vpt-doctor", "bundle", "--json"]))
    for finding in report["findings"]:
        print(f"{finding['state']:8} {finding['check']}: {finding['found']}")
    assert report["devices"] == ["cpu"]
    for sample in samples:
        words = ["vpt-run", "bundle", "picture.png", sample.question, "--json"]
        words += ["--perception", sample.perception]
        answer = json.loads(image.run(words))["text"]
        print(f"{sample.question} {answer}")
        assert answer == sample.answer


if __name__ == "__main__":
    main()
