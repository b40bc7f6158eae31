"""Brings what `make gpu` needs to a machine without a network: wheels and bundles, in pieces that
fit the way.

    python benchmarks/carry.py collect build/wheels --python 3.12 --bundles build/bundles
    python benchmarks/carry.py install build/wheels --out build/gpu

``collect`` downloads the wheels, packs the bundles, and cuts what is larger than a piece.
``install`` joins the pieces, checks every sha256, unpacks the bundles and makes a virtual
environment; it needs Python 3.10 and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
# tests/golden.py imports pytest.
WHEELS = ("numpy", "Pillow<13", "tokenizers", "onnxruntime-gpu", "pytest")
# Their dependencies bring a CUDA runtime: not needed.
RTX = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings")
CUDA = "onnxruntime-gpu[cuda,cudnn]"
GLIBC = range(17, 40)  # pip takes a wheel only for a platform that is named exactly
SUMS = "SHA256SUMS"
ARCHIVE = "bundles.tar.xz"


def collect(folder: Path, python: str, bundles: Path, piece: int, cuda: bool) -> None:
    """Everything for a machine with ``python`` on x86-64, in files of at most ``piece`` bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    whole = folder / "whole"
    whole.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(whole), f"--python-version={python}", "--implementation=cp"]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC]
    command += ["--platform=manylinux2014_x86_64", "--only-binary=:all:"]
    command += ["--constraint", str(ROOT / "constraints.txt")]
    wheels = [*WHEELS, CUDA] if cuda else WHEELS
    subprocess.run([*command, *wheels], check=True)
    subprocess.run([*command, "--no-deps", *RTX], check=True)
    with tarfile.open(whole / ARCHIVE, "w:xz", preset=3) as archive:
        for path in sorted(path for path in bundles.iterdir() if path.is_dir()):
            archive.add(path, path.name)
    files = sorted(whole.iterdir())
    (folder / SUMS).write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
    for path in files:
        if path.stat().st_size > piece:
            cut(path, folder, piece)
            path.unlink()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(
        f"{folder}: {len(files)} files as {len(sizes)}, {sum(sizes):,} bytes, "
        f"the largest has {max(sizes):,}"
    )


def cut(path: Path, folder: Path, piece: int) -> None:
    """``path`` as NAME.000, NAME.001, ... in ``folder``."""
    with path.open("rb") as file:
        for index in range(-(-path.stat().st_size // piece)):
            (folder / f"{path.name}.{index:03}").write_bytes(file.read(piece))


def join(folder: Path, whole: Path) -> list[Path]:
    """All files of ``folder`` as they were, in ``whole``.

    Raises SystemExit for one that is missing or altered.
    """
    whole.mkdir(parents=True, exist_ok=True)
    files = []
    wrong = []
    for line in (folder / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        path = whole / name
        if not path.is_file() or sha256(path) != digest:
            pieces = sorted(folder.glob(f"{name}.[0-9][0-9][0-9]")) or [folder / "whole" / name]
            with path.open("wb") as file:
                for piece in filter(Path.is_file, pieces):
                    file.write(piece.read_bytes())
        if sha256(path) != digest:
            wrong.append(f"{name} ({path.stat().st_size:,} bytes)")
        files.append(path)
    if wrong:
        raise SystemExit(
            f"error: missing or altered in {folder}: {', '.join(wrong)}; carry them again"
        )
    print(f"joined {len(files)} files, every sha256 is right")
    return files


def install(folder: Path, out: Path) -> None:
    """Wheels into ``out/venv``, bundles into ``out/bundles``; the virtual environment sees this
    Python's packages.
    """
    done = out / "installed"
    sums = (folder / SUMS).read_text()
    if done.exists() and done.read_text() == sums:
        print(f"{out} holds what {folder} brings already")
        return
    files = join(folder, out / "whole")
    with tarfile.open(out / "whole" / ARCHIVE) as archive:
        shutil.rmtree(out / "bundles", ignore_errors=True)
        if sys.version_info >= (3, 12):
            archive.extractall(out / "bundles", filter="data")
        else:
            archive.extractall(out / "bundles")
    print(f"unpacked {len(list((out / 'bundles').iterdir()))} folders into {out / 'bundles'}")
    made = out / "venv"
    if not (made / "bin" / "python").exists():
        venv.create(made, with_pip=True)
    wheels = [str(path) for path in files if path.suffix == ".whl"]
    pip = [str(made / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    flags = ["--quiet", "--no-index", "--no-deps", "--ignore-installed"]
    subprocess.run([*pip, *flags, *wheels], check=True)
    (own,) = made.glob("lib/python*/site-packages")
    outer = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    # For its torch, behind what was brought.
    (own / "outer.pth").write_text("".join(f"{path}\n" for path in outer))
    done.write_text(sums)
    print(f"installed {len(wheels)} wheels into {made}, without a network")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Collect what `make gpu` needs, or install it without a network."
    )
    parser.add_argument("action", choices=("collect", "install"))
    parser.add_argument("folder", type=Path, help="where the pieces lie")
    parser.add_argument("--python", default="3.12", help="version on the other machine")
    parser.add_argument(
        "--bundles", type=Path, default=Path("build/bundles"), help="what bundles.py wrote"
    )
    parser.add_argument(
        "--piece", type=int, default=15_000_000, help="bytes; a larger file goes in several"
    )
    parser.add_argument(
        "--cuda", action="store_true", help="bring CUDA's libraries too (1.5 GB): no torch there"
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    options = parser.parse_args()
    if options.action == "collect":
        collect(options.folder, options.python, options.bundles, options.piece, options.cuda)
    else:
        install(options.folder, options.out)


if __name__ == "__main__":
    main()
