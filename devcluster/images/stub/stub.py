"""Answers HTTP as a stub definition says: the first route that matches a request gives its answer.

A definition is JSON: `{"port": 8080, "routes": [{"method", "path", "query", "status", "headers", "body"}]}`.
`path` has `{name}` for one segment; `query` are parameters that have to be there with these values; `body` is
text. The routes are in the order in which they are tried.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

DEFINITION = "/etc/perdure/mock/stub.json"
_LARGEST_BODY = 16 * 1024 * 1024


class Definition:
    """The routes, and which of them answers a request."""

    def __init__(self, document):
        self.port = int(document.get("port", 8080))
        self.routes = [(_segments(route["path"]), route) for route in document["routes"]]

    def find(self, method, target):
        """The route for a request; else None and the methods that its path has."""
        parts = urlsplit(target)
        path, query = _segments(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        others = set()
        for pattern, route in self.routes:
            if not _fits(pattern, path):
                continue
            wanted = "GET" if method == "HEAD" and route["method"] != "HEAD" else method
            if route["method"] != wanted:
                others.add(route["method"])
            elif all(query.get(key) == value for key, value in route.get("query", {}).items()):
                return route, others
        return None, others


def _segments(path):
    return path.strip("/").split("/")


def _fits(pattern, path):
    return len(pattern) == len(path) and all(
        (wanted.startswith("{") and wanted.endswith("}") and given != "") or unquote(given) == wanted
        for wanted, given in zip(pattern, path, strict=True)
    )


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "perdure-stub"
    sys_version = ""
    timeout = 60

    def answer(self):
        """Answer any method."""
        if not self._drain():
            return
        route, others = self.server.definition.find(self.command, self.path)
        if route is not None:
            self._send(int(route["status"]), route.get("headers", {}), route.get("body", ""))
        elif others:
            allowed = {"Allow": ", ".join(sorted(others)), "Content-Type": "application/json"}
            self._send(405, allowed, json.dumps({"stub": "this path has no such method"}))
        else:
            known = sorted(
                {route["method"] + " " + route["path"] for _, route in self.server.definition.routes}
            )
            body = json.dumps({"stub": "no route answers this request", "routes": known[:100]})
            self._send(404, {"Content-Type": "application/json"}, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = answer  # noqa: N815

    def _drain(self):
        """Read the request's body away: it may be in the way of the next request."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdigit() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            return True
        left = int(length)
        while left:
            chunk = self.rfile.read(min(left, 65536))
            if not chunk:
                self.close_connection = True
                return False
            left -= len(chunk)
        return True

    def _send(self, status, headers, body):
        content = body.encode()
        bare = status in (204, 304) or 100 <= status < 200
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not bare:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and not bare:
            self.wfile.write(content)

    def log_message(self, format, *arguments):  # noqa: A002
        """One line for each request."""
        sys.stdout.write(f"{self.command or '-'} {self.path if self.command else '-'} {format % arguments}\n")


class Server(ThreadingHTTPServer):
    """Knows its definition; ends with its connections."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address, definition):
        super().__init__(address, Handler)
        self.definition = definition


def main():
    """Serve until told to stop."""
    path = os.environ.get("STUB_DEFINITION", DEFINITION)
    definition = Definition(json.loads(Path(path).read_text(encoding="utf-8")))
    server = Server(("", definition.port), definition)
    # Not in the handler itself: shutdown waits for the loop that the handler interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"{len(definition.routes)} routes on port {definition.port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
