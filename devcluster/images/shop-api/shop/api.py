"""The HTTP service: GET /healthz, /products, /orders/{id}, POST /orders."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import psycopg2
import redis

from shop import misbehaviour
from shop.settings import Settings
from shop.store import Store, UnknownProductError

MAX_BODY = 64 * 1024


class Shop:
    """Answers to requests; one store, guarded by a lock, is enough for a demo."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.database_url, settings.redis_url)
        self._lock = threading.Lock()
        self._prepared = False

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, object]:
        """The status and JSON body of the answer to a request."""
        if path == "/healthz":
            return self._health()
        misbehaviour.slow_down(query)
        with self._lock:
            self._prepare()
            match (method, path.strip("/").split("/")):
                case ("GET", ["products"]):
                    products = self._store.products()
                    if misbehaviour.is_wrong(query):
                        products = [{**p, "price_cents": p["price_cents"] // 100} for p in products]
                    return 200, {"products": products, "version": self._settings.version}
                case ("POST", ["orders"]):
                    return self._order(body)
                case ("GET", ["orders", number]) if number.isdigit():
                    order = self._store.order(int(number))
                    return (200, order) if order else (404, {"error": "no such order"})
        return 404, {"error": "not found"}

    def _health(self) -> tuple[int, object]:
        if not misbehaviour.is_ready():
            return 503, {"status": "starting"}
        if self._settings.database_url:
            with self._lock:
                self._prepare()
        return 200, {"status": "ok", "version": self._settings.version}

    def _prepare(self) -> None:
        if not self._prepared:
            self._store.prepare()
            self._prepared = True

    def _order(self, body: bytes) -> tuple[int, object]:
        try:
            wanted = json.loads(body)
            product, quantity = int(wanted["product_id"]), int(wanted.get("quantity", 1))
        except (ValueError, KeyError, TypeError, AttributeError):
            return 400, {"error": "expected {product_id, quantity}"}
        if quantity < 1:
            return 400, {"error": "quantity must be at least 1"}
        try:
            return 201, self._store.place_order(product, quantity)
        except UnknownProductError:
            return 422, {"error": "no such product"}


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop."""
    shop = Shop(settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            target = urlsplit(self.path)
            length = min(int(self.headers.get("content-length") or 0), MAX_BODY)
            body = self.rfile.read(length)
            try:
                status, answer = shop.answer(self.command, target.path, dict(parse_qsl(target.query)), body)
            except (psycopg2.Error, redis.RedisError) as e:
                self.log_error("%s", str(e).strip())
                status, answer = 503, {"error": "a server behind this one does not answer"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle  # noqa: N815 (names the server looks for)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            if self.path != "/healthz":
                super().log_request(code, size)

    server = ThreadingHTTPServer(("", settings.port), Handler)
    print(f"listening on port {settings.port}", flush=True)
    server.serve_forever()
