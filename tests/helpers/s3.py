"""A real S3 server for tests: versitygw over a directory, on this machine only."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from obstore.store import S3Store

from devstack.s3server import location
from tests.helpers.missing import missing
from tests.helpers.ports import free_port
from tests.helpers.waiting import eventually

BUCKET = "perdure"
ACCESS, SECRET = "perdure-tests", "perdure-tests-secret"
_START_SECONDS = 20.0


@dataclass
class S3Server:
    """A server that can be stopped and started again; a bucket is a directory below `root`."""

    root: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a client finds it by."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def sizes(self) -> dict[str, int]:
        """Return all that the bucket lists: size by key."""
        store = S3Store(
            BUCKET,
            endpoint=self.environment["AWS_ENDPOINT"],
            region=self.environment["AWS_REGION"],
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )
        return {each["path"]: each["size"] for page in store.list() for each in page}

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._process = subprocess.Popen(
            [str(location()), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.root)],
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, "the S3 server takes connections", within=_START_SECONDS)

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the S3 server ended by itself"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_s3(root: Path) -> Iterator[S3Server]:
    """Run a server with one empty bucket; skip the test where it was not built, but not in CI."""
    if not location().exists():
        missing("no S3 server: python -m devstack s3 builds it")
    (root / BUCKET).mkdir(parents=True)
    server = S3Server(root, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
