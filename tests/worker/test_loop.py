"""The event loop that a worker runs on gives its readers all that has come, however late they read."""

import asyncio
import datetime
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from worker.main import on_loop

SIZE = 64 * 1024


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate of its own for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    clear = serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def serve(listening: socket.socket, certificate: Path, go_on: threading.Event) -> None:
    """Send `SIZE` bytes twice, the second time when told to, and close like Go's servers: without waiting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    plain, _ = listening.accept()
    with context.wrap_socket(plain, server_side=True) as connection:
        connection.sendall(bytes(SIZE))
        assert go_on.wait(30)
        connection.sendall(bytes(SIZE))
        connection.setblocking(False)
        with suppress(ssl.SSLWantReadError):
            connection.unwrap()


def test_what_came_before_the_other_side_closed_is_read(certificate: Path) -> None:
    read = 0

    async def work() -> None:
        nonlocal read
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        go_on = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(asyncio.to_thread(serve, listening, certificate, go_on))
            # A small limit: what comes first makes the reader tell the transport to pause.
            reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=context, limit=1024)
            read += len(await reader.read(1))
            go_on.set()
            await serving
            # The loop has time to see that the other side has closed.
            for _ in range(100):
                await asyncio.sleep(0)
            while piece := await reader.read(SIZE):
                read += len(piece)
            writer.close()

    on_loop(work())
    assert read == 2 * SIZE
