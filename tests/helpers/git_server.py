"""Git repositories on a real smart-HTTP server: `git http-backend` behind a server of our own on loopback."""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}


@dataclass
class GitServer:
    """A server with the repositories below `root`."""

    root: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    moved: str | None = None
    """Where every request is sent on to."""
    page: bytes | None = None
    """What every request is answered, as a web page; None: what git answers."""
    held: threading.Event = field(default_factory=threading.Event)
    """Cleared: no request is answered."""
    arrived: threading.Event = field(default_factory=threading.Event)
    """Set by each request."""

    def url(self, name: str, host: str = "localhost") -> str:
        """The URL of a repository."""
        return f"http://{host}:{self.port}/{name}.git"

    def git(self, directory: Path, *arguments: str, **variables: str) -> str:
        """Run git; return what it says."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=directory,
            env={**_ENVIRONMENT, "HOME": str(self.root), **variables},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def make(
        self,
        name: str,
        files: Mapping[str, str | bytes],
        *,
        links: Mapping[str, str] = {},
        branch: str = "main",
        filters: bool = True,
    ) -> str:
        """Commit files to a branch of a repository, made if need be; return the commit."""
        bare = self.root / f"{name}.git"
        if not bare.exists():
            self.git(self.root, "init", "-q", "--bare", f"--initial-branch={branch}", bare.name)
            self.git(bare, "config", "uploadpack.allowFilter", str(filters).lower())
            self.git(bare, "config", "uploadpack.allowReachableSHA1InWant", "true")
        work = self.root / f"{name}-{branch.replace('/', '-')}"
        work.mkdir()
        self.git(work, "init", "-q", f"--initial-branch={branch}")
        for path, content in files.items():
            file = work / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        for path, target in links.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).symlink_to(target)
        self.git(work, "add", "-A", "-f")
        self.git(work, "commit", "-q", "--allow-empty", "-m", "Files")
        self.git(work, "push", "-q", str(bare), f"HEAD:refs/heads/{branch}")
        return self.git(work, "rev-parse", "HEAD")


@contextmanager
def git_server(root: Path) -> Iterator[GitServer]:
    """Serve the repositories below a directory."""
    state = GitServer(root)
    state.held.set()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            state.asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.arrived.set()
            state.held.wait()
            if state.moved is not None:
                self.send_response(301)
                self.send_header("Location", state.moved + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if state.page is not None:
                status, headers, answer = 200, [("Content-Type", "text/html")], state.page
            else:
                status, headers, answer = _backend(self, body, root)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _serve  # noqa: N815 - the base class calls them so

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.held.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def _backend(
    handler: BaseHTTPRequestHandler, body: bytes, root: Path
) -> tuple[int, list[tuple[str, str]], bytes]:
    path, _, query = handler.path.partition("?")
    done = subprocess.run(
        ["git", "http-backend"],
        input=body,
        env={
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": handler.command,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        },
        check=False,
        capture_output=True,
    )
    head, _, answer = done.stdout.partition(b"\r\n\r\n")
    status, headers = 200, []
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name == "Status":
            status = int(value.split()[0])
        elif name:
            headers.append((name, value))
    return status, headers, answer
