from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from certificates import make_certificate

from vpt_edge.runtime import VptError
from vpt_edge.server.certificate import Certificate, open_certificate


def test_files_that_are_not_a_certificate_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    key, chain = make_certificate(tmp_path / "a")
    other, _ = make_certificate(tmp_path / "b")
    junk = tmp_path / "junk"
    junk.write_text("hello")
    for pair, text in (
        ((chain, other), f"the key in {other} is not that of {chain}"),
        ((junk, key), "are not a certificate and its key in PEM"),
        ((chain, junk), "are not a certificate and its key in PEM"),
        ((tmp_path / "none", key), "cannot read .*none: No such file"),
        ((chain, tmp_path), "cannot read .*: Is a directory"),
    ):
        with pytest.raises(VptError, match=text):
            open_certificate(Certificate(*pair))


def test_a_key_with_a_password_asks_nobody(tmp_path: Path) -> None:
    key, chain = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(key)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(VptError, match="has a password, expected one without"):
        open_certificate(Certificate(chain, locked))


def test_old_versions_are_not_spoken(tmp_path: Path) -> None:
    key, chain = make_certificate(tmp_path)
    context = open_certificate(Certificate(chain, key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
