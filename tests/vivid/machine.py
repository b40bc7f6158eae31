"""A virtual machine that sees this one's files, and runs a script."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vivid.kernel import Kernel

# vivid's parameters: one camera, of the kind of a webcam.
DRIVER = {"vivid": "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0"}
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "vivid")
BUSYBOX = Path("/bin/busybox")  # of busybox-static
MOUNT = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288"
# This machine's root lies under a file system in memory: nothing that is written there comes back.
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read module parameters; do insmod /modules/$module $parameters || exit 1; done < /modules/list
{MOUNT},ro,cache=loose host /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root
for each in proc sys dev; do mount --move /$each /root/$each; done
mkdir -p /root/out
{MOUNT} out /root/out
chroot /root /bin/sh /out/job.sh
sync
poweroff -f
"""
# Never KVM: in a machine that is virtual itself it may hang. numpy needs SSE4.2.
QEMU = (
    "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2", "-m", "2048",
    "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none", "-no-reboot",
)  # fmt: skip
# The kernel's own check of the timer fails where the emulator is kept waiting for a processor.
KERNEL = "console=ttyS0 quiet panic=-1 no_timer_check"
LONGEST = 3600  # seconds


def write_initramfs(kernel: Kernel, place: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        for name in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "root"):
            (root / name).mkdir()
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        lines = dict[str, str]()
        for name in MODULES:
            for file in kernel.modules(name):
                shutil.copy(file, root / "modules")
                lines[file.name] = DRIVER.get(file.stem, "")
        text = "".join(f"{name} {parameters}\n" for name, parameters in lines.items())
        (root / "modules" / "list").write_text(text)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with place.open("wb") as archive:
            command = ["cpio", "--create", "--format=newc", "--quiet"]
            subprocess.run(command, cwd=root, input=names.encode(), stdout=archive, check=True)


def run_machine(kernel: Kernel, folder: Path, script: str) -> None:
    """Boot it, and run ``script``, which sees ``folder``/out as /out and may write there."""
    out = folder.resolve() / "out"
    (out / "job.sh").write_text(script)
    initramfs = folder.resolve() / "initramfs"
    write_initramfs(kernel, initramfs)
    command = [*QEMU, "-kernel", str(kernel.image), "-initrd", str(initramfs)]
    command += ["-append", KERNEL]
    shares = {"host": "path=/,readonly=on,multidevs=remap", "out": f"path={out}"}
    for tag, options in shares.items():
        command += ["-fsdev", f"local,id={tag},security_model=none,{options}"]
        command += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=LONGEST)
