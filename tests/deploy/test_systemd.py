"""The unit, by systemd's own judgement and by what is promised of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from golden import ROOT

from vpt_edge.commands.console import INTERRUPTED

UNIT = ROOT / "deploy" / "systemd" / "vpt-watch@.service"
TEXT = UNIT.read_text("utf-8")
PAGE = ROOT / "docs" / "camera-on-a-jetson.md"
PROGRAM = "/opt/vpt-edge/bin/vpt-watch"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def value(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", TEXT, re.MULTILINE)
    return str(found)


def verify(tmp_path: Path, text: str) -> str:
    """What systemd says of the unit on a machine that has the program."""
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(PROGRAM, "/bin/true"))
    command = ["systemd-analyze", "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


@needs_systemd
def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    assert verify(tmp_path, TEXT) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("MemoryMax=75%", "MemoryMax=75%%", "Invalid memory limit"),
        ("Type=notify", "Type=notified", "service type"),
        ("Restart=always", "Restat=always", "'Restat'"),
    ],
)
def test_systemd_sees_a_fault(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in TEXT
    assert complaint in verify(tmp_path, TEXT.replace(old, new))


@needs_systemd
def test_the_service_may_do_little(tmp_path: Path) -> None:
    """Systemd's own measure of what is left open: 10 is all."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(UNIT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown" in result.stderr or "unrecognized option" in result.stderr:
        pytest.skip("this systemd measures no files")
    assert result.returncode == 0, result.stdout[-200:]


def test_it_comes_back_for_ever() -> None:
    assert value("Type") == "notify"
    assert value("Restart") == "always"
    assert value("StartLimitIntervalSec") == "0"
    assert value("SuccessExitStatus") == str(INTERRUPTED)
    for name in ("WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "MemoryMax"):
        assert value(name)


def test_the_address_is_in_no_argument_and_no_environment() -> None:
    """Every user of the machine reads the arguments of a process, and each child its
    environment.
    """
    assert value("LoadCredential") == "source:/etc/vpt-edge/%i.source"
    assert "@/run/credentials/%n/source" in value("ExecStart").split()
    assert set(re.findall(r"\$\{?(\w+)", value("ExecStart"))) == {"OPTIONS", "BUNDLE", "QUESTION"}


def test_nothing_is_told_to_others() -> None:
    assert value("Environment") == "ORT_DISABLE_TELEMETRY=1"


def test_a_question_of_many_words_is_one_argument() -> None:
    words = value("ExecStart").split()
    assert {"${BUNDLE}", "${QUESTION}", "$OPTIONS"} <= set(words)


@pytest.mark.parametrize("options", ["", "--device tensorrt --every 2", "--jsonl a --on-change"])
def test_the_command_takes_it(options: str) -> None:
    """Options stand last: one whose value may be left out would take the bundle for it."""
    watch = pytest.importorskip("vpt_edge.commands.watch")
    _, *words = value("ExecStart").replace("${QUESTION}", "Is-it-open?").split()
    assert words.pop() == "$OPTIONS"
    parsed = watch._parser().parse_args([*words, *options.split()])
    assert (parsed.bundle, parsed.question) == ("${BUNDLE}", ["Is-it-open?"])
    assert parsed.source == "@/run/credentials/%n/source"
    assert parsed.status == "/run/vpt-watch-%i/status.json"


def test_cameras_can_be_reached() -> None:
    """Of a Jetson's CSI cameras by a socket in /tmp, which a private one would hide."""
    assert "video" in value("SupplementaryGroups").split()
    for name in ("PrivateTmp", "PrivateDevices", "DynamicUser", "DeviceAllow", "DevicePolicy"):
        assert not re.search(rf"^{name}=", TEXT, re.MULTILINE), name


def test_the_page_shows_how_its_files_are_made() -> None:
    page = PAGE.read_text("utf-8")
    for word in ("/etc/vpt-edge/door.env", "/etc/vpt-edge/door.source", "BUNDLE=", "QUESTION="):
        assert word in page
    assert "deploy/systemd/vpt-watch@.service" in page
