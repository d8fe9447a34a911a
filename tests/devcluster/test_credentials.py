"""Certificates, tokens and passwords."""

import json
import stat
from pathlib import Path

from devcluster.credentials import USERS, kubeconfig, make_certificates, make_tokens
from devcluster.registry import bcrypt
from devcluster.tools import run, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_certificates_are_signed_by_the_ca_and_made_once(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    make_certificates(pki)
    for name in ("server", "apiserver"):
        run("openssl", "verify", "-CAfile", pki / "ca.crt", pki / f"{name}.crt")
    names = run("openssl", "x509", "-in", pki / "server.crt", "-noout", "-ext", "subjectAltName")
    for expected in (
        "IP Address:127.0.0.1",
        "IP Address:10.111.0.1",
        "DNS:localhost",
        "DNS:kubernetes.default.svc",
    ):
        assert expected in names
    assert {mode(key) for key in pki.glob("*.key")} == {0o600}
    before = {path: path.read_bytes() for path in pki.iterdir()}
    make_certificates(pki)
    assert {path: path.read_bytes() for path in pki.iterdir()} == before


def test_every_user_has_a_token_of_its_own_that_stays(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    tokens = make_tokens(file)
    assert tokens.keys() == USERS.keys()
    assert len(set(tokens.values())) == len(USERS)
    assert mode(file) == 0o600
    assert make_tokens(file) == tokens


def test_a_kubeconfig_names_one_cluster_and_one_user(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("pem")
    config = json.loads(kubeconfig(tmp_path / "ca.crt", "secret", "me", "https://192.0.2.1"))
    assert config["users"] == [{"name": "me", "user": {"token": "secret"}}]
    assert config["clusters"][0]["cluster"]["server"] == "https://192.0.2.1"


def test_passwords_are_hashed_with_a_new_salt_each_time() -> None:
    one, other = bcrypt("pass"), bcrypt("pass")
    assert one != other
    assert one.startswith("$2b$")


def test_private_files_are_private_even_when_they_replace_public_ones(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)


def test_a_file_that_is_right_already_is_not_written_again(tmp_path: Path) -> None:
    """kube-proxy ends when its configuration is written, the same or not."""
    file = tmp_path / "proxy.json"
    write_private(file, "same")
    before = file.stat()
    write_private(file, "same")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_private(file, "other")
    assert file.read_text() == "other"
