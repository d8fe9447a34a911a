"""Two small registries on the node's address: one open to anybody, one that asks for a login."""

import base64
import ctypes
import ctypes.util
import json
import secrets
from pathlib import Path

from devcluster import nodeconfig
from devcluster.addresses import OPEN_REGISTRY, PRIVATE_REGISTRY
from devcluster.errors import DevclusterError
from devcluster.layout import Layout
from devcluster.processes import Processes
from devcluster.tools import write_private

COMPONENTS = ("registry-open", "registry-private")
_USER = "perdure"
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def start(layout: Layout, processes: Processes) -> None:
    """Start both registries; the first time with a new password, kept in registry.json."""
    state = layout.short
    users = state / "registry" / "users"
    if not layout.registry_file.exists():
        password = secrets.token_urlsafe(24)
        write_private(users, f"{_USER}:{bcrypt(password)}\n")
        content = {
            "open": OPEN_REGISTRY,
            "private": PRIVATE_REGISTRY,
            "username": _USER,
            "password": password,
        }
        write_private(layout.registry_file, json.dumps(content, indent=2) + "\n")
    for name, address, users_file in (
        ("registry-open", OPEN_REGISTRY, None),
        ("registry-private", PRIVATE_REGISTRY, users),
    ):
        config = state / "registry" / f"{name}.json"
        write_private(config, nodeconfig.registry(state, address, name, users_file))
        processes.start(name, ["docker-registry", "serve", config])


def push_hosts(layout: Layout) -> Path:
    """A directory of containerd host settings that carry the login, for pushing; its path.

    Kept apart from those the node pulls with, which must not have it. A file and not a flag, so that the
    password is not in the list of processes.
    """
    try:
        login = json.loads(layout.registry_file.read_text())
    except FileNotFoundError as e:
        raise DevclusterError("there is no registry; run: python -m devcluster up") from e
    basic = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    directory = layout.state / "registry" / "push"
    for address, header in (
        (login["open"], ""),
        (
            login["private"],
            f'  [host."http://{login["private"]}".header]\n    Authorization = "Basic {basic}"\n',
        ),
    ):
        text = (
            f'server = "http://{address}"\n[host."http://{address}"]\n'
            f'  capabilities = ["pull", "resolve", "push"]\n{header}'
        )
        write_private(directory / address / "hosts.toml", text)
    return directory


def describe(layout: Layout) -> list[str]:
    """Lines for `status`; never the password."""
    if not layout.registry_file.exists():
        return ["registry: none"]
    login = json.loads(layout.registry_file.read_text())
    return [
        f"registry: {login['open']} (open), {login['private']} (login in {layout.registry_file})",
    ]


def bcrypt(password: str) -> str:
    """The bcrypt hash that the registry's htpasswd file wants, by the system's own crypt library."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = "$2b$06$" + "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(21)) + "."
    hashed: bytes | None = library.crypt(password.encode(), salt.encode())
    if hashed is None or not hashed.startswith(b"$2b$"):
        raise DevclusterError("the system's crypt library knows no bcrypt")
    return hashed.decode()
