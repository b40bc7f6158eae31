"""The unit of vpt-serve, by systemd's own judgement and by what is promised of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from golden import ROOT

from vpt_edge.commands.console import INTERRUPTED
from vpt_edge.commands.serve import _parser
from vpt_edge.server.settings import Settings

UNIT = ROOT / "deploy" / "systemd" / "vpt-serve.service"
TEXT = UNIT.read_text("utf-8")
WATCH = (ROOT / "deploy" / "systemd" / "vpt-watch@.service").read_text("utf-8")
PAGE = (ROOT / "docs" / "serve-safety.md").read_text("utf-8")
PROGRAM = "/opt/vpt-edge/bin/vpt-serve"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def value(name: str) -> str:
    (line,) = re.findall(rf"^{name}=(.*)$", TEXT, re.MULTILINE)
    return str(line)


@needs_systemd
def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(TEXT.replace(PROGRAM, "/bin/true"))
    command = ["systemd-analyze", "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout + result.stderr == ""


@needs_systemd
def test_the_service_may_do_little() -> None:
    """Systemd's own measure of what is left open: 10 is all."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(UNIT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown" in result.stderr or "unrecognized option" in result.stderr:
        pytest.skip("this systemd measures no files")
    assert result.returncode == 0, result.stdout[-200:]


def test_it_comes_back_for_ever_and_ends_in_time() -> None:
    assert value("Type") == "notify"
    assert value("Restart") == "always"
    assert value("SuccessExitStatus") == str(INTERRUPTED)
    assert value("WatchdogSec") == "1min"
    assert value("WatchdogSignal") == "SIGKILL"  # which leaves no core with what was asked
    assert float(value("TimeoutStopSec")) > 2 * Settings("model").grace_seconds
    assert int(value("LimitNOFILE")) > 4 * Settings("model").max_connections


def test_there_is_a_place_for_the_access_log() -> None:
    assert value("ProtectSystem") == "strict"
    place = f"/var/log/{value('LogsDirectory')}"
    assert value("LogsDirectoryMode") == "0750"
    assert f"--access-log {place}/access.jsonl" in PAGE


def test_keys_are_in_no_argument_and_no_environment() -> None:
    """Every user of the machine reads the arguments of a process, and each child its
    environment.
    """
    assert value("LoadCredential") == "keys:/etc/vpt-edge/serve.keys"
    assert "/run/credentials/%n/keys" in value("ExecStart").split()
    assert set(re.findall(r"\$\{?(\w+)", value("ExecStart"))) == {"BUNDLE", "OPTIONS"}


@pytest.mark.parametrize("options", ["", "--host 0.0.0.0 --allow-host a b", "--device tensorrt"])
def test_the_command_takes_it(options: str) -> None:
    _, *words = value("ExecStart").split()
    assert words.pop() == "$OPTIONS"
    parsed = _parser().parse_args([*words, *options.split()])
    assert parsed.bundle == "${BUNDLE}"
    assert str(parsed.api_key_file) == "/run/credentials/%n/keys"


def test_it_may_do_no_more_than_a_watch() -> None:
    """What both are shut off from is written in both."""
    sandbox = re.compile(r"^(?:Protect|Restrict|System|No|Lock|Capability|Remove)\w+=.*$", re.M)
    assert sandbox.findall(TEXT) == sandbox.findall(WATCH)


def test_the_page_shows_how_its_files_are_made() -> None:
    for word in ("/etc/vpt-edge/serve.env", "/etc/vpt-edge/serve.keys", "BUNDLE=", "OPTIONS="):
        assert word in PAGE
    assert "deploy/systemd/vpt-serve.service" in PAGE


def test_the_page_makes_user_and_folder_before_they_are_needed() -> None:
    _, _, steps = PAGE.partition("## As a service")
    before, folder, behind = steps.partition("install -d -m 750 /etc/vpt-edge\n")
    assert folder
    assert "/etc/vpt-edge" not in before
    assert f"useradd --system --groups video,render {value('User')}\n" in before
    keys, _, _ = behind.partition("| sudo tee /etc/vpt-edge/serve.keys")
    assert (
        "install -m 600 /dev/null /etc/vpt-edge/serve.keys" in keys
    )  # nobody reads them meanwhile
