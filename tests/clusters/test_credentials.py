"""Signing in from inside a cluster, and configurations that are of no use."""

import base64
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.aio.config import incluster_config

from clusters.credentials import Credentials
from clusters.errors import Unavailable
from clusters.gateway import ClusterConfig, open_cluster
from tests.clusters.fake_api import write_kubeconfig


async def test_token_of_the_service_account_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text(certificate())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    credentials = Credentials(None, None)
    endpoint = await credentials.endpoint()
    assert endpoint.url == "https://10.0.0.1:443"
    assert not endpoint.loopback
    assert await credentials.authorization() == "bearer first"
    token.write_text("second")
    await credentials.reload()
    assert await credentials.authorization() == "bearer second"


async def test_not_inside_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unavailable):
        await Credentials(None, None).endpoint()


async def test_kubeconfig_that_is_missing_or_wrong(tmp_path: Path) -> None:
    for path, context in (
        (tmp_path / "missing", None),
        (write_kubeconfig(tmp_path / "good", "http://127.0.0.1:1", "t"), "no-such-context"),
    ):
        with pytest.raises(Unavailable) as caught:
            async with open_cluster(ClusterConfig(path, context)):
                pass
        assert not caught.value.sent


async def test_own_machine_is_never_behind_a_proxy(tmp_path: Path) -> None:
    for server, loopback in (
        ("http://127.0.0.1:1", True),
        ("https://localhost:1", True),
        ("https://[::1]:1", True),
        ("https://cluster.example.com", False),
    ):
        path = write_kubeconfig(tmp_path / "kubeconfig", server, "t")
        assert (await Credentials(path, None).endpoint()).loopback is loopback


async def test_what_stood_in_the_kubeconfig_is_left_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", "t")
    written = yaml.safe_load(path.read_text())
    authority = base64.b64encode(certificate().encode()).decode()
    written["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    path.write_text(yaml.safe_dump(written))
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    credentials = Credentials(path, None)
    assert (await credentials.endpoint()).tls.cert_store_stats()["x509_ca"] == 1
    assert list(files.iterdir()) == []
    await credentials.reload()
    assert list(files.iterdir()) == []


def certificate() -> str:
    """Return some authority's certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()
