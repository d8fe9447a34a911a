"""Where a repository may be: its URL taken apart, and the addresses of its host looked up and judged.

Who sends a URL has this process connect somewhere. What is not an address of the public internet is refused,
and the addresses that were judged are the ones that git connects to: it looks nothing up itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOOKUP_SECONDS: Final = 5.0
_LONGEST_URL: Final = 1_000
# Not of the public internet either: not every version of Python knows, and no registry has what clouds use.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # IETF protocol assignments; one cloud's metadata
        "192.88.99.0/24",  # relays to IPv6, withdrawn
        "168.63.129.16/32",  # one cloud's own services, the same in every network of it
        "fec0::/10",  # site-local, withdrawn
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)
# Addresses that hold another one, by which a gateway would reach it.
_TRANSLATED: Final = tuple(
    ipaddress.ip_network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


class RepositoryRefused(Exception):
    """A repository is not read; the text says why, for the user. `place` is the member of `repository`."""

    def __init__(self, message: str, suggestion: str | None = None, *, place: str = "url") -> None:
        super().__init__(message)
        self.suggestion = suggestion
        self.place = place


@dataclass(frozen=True, slots=True)
class RepositoryUrl:
    """A URL taken apart: `host` in lower case without brackets, `path` begins with `/`."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def name(self) -> str:
        """What the repository is called."""
        return self.path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")


def read_url(text: str, *, http: bool) -> RepositoryUrl:
    """Take a URL apart; `http` allows that scheme beside https. Raises RepositoryRefused."""
    if len(text) > _LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise RepositoryRefused("is no URL", "https://git.example.com/team/project.git")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise RepositoryRefused("is no URL", "https://git.example.com/team/project.git") from error
    if parts.scheme != "https" and not (http and parts.scheme == "http"):
        raise RepositoryRefused("is not read over this protocol", "https://git.example.com/team/project.git")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise RepositoryRefused(
            "holds credentials, which are not taken: only public repositories are read",
            "send the files of a private one: perdure blueprint discover DIRECTORY",
        )
    if parts.query or parts.fragment:
        raise RepositoryRefused("has a query or a fragment", "name a branch as ref, and a directory as path")
    if port == 0:
        raise RepositoryRefused("names the port 0, which nobody listens on")
    host = parts.hostname or ""
    if not _is_host(host):
        raise RepositoryRefused("names no host", "https://git.example.com/team/project.git")
    path = quote(unquote(parts.path), safe="/~+-._@")
    if path.strip("/") == "" or ".." in path.split("/"):
        raise RepositoryRefused("names no repository", "https://git.example.com/team/project.git")
    return RepositoryUrl(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def _is_host(host: str) -> bool:
    """A name, or an address in its usual form: other forms of numbers are read differently by everybody."""
    if ":" in host or _NUMBER.fullmatch(host.rsplit(".", 1)[-1]):
        try:
            return str(ipaddress.ip_address(host)) == host
        except ValueError:
            return False
    return len(host) <= 253 and _HOST.fullmatch(host) is not None


async def addresses(
    url: RepositoryUrl, *, allowed: Sequence[Network], refused: Sequence[Network]
) -> tuple[Address, ...]:
    """Look up the host. Raises RepositoryRefused unless every one of its addresses may be connected to."""
    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                url.host, url.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
    except (OSError, TimeoutError, UnicodeError) as error:
        raise RepositoryRefused(f"the host {url.host} is not known") from error
    judged = tuple(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
    for address in judged:
        if not reachable(address, allowed=allowed, refused=refused):
            # The address is not said: a name may tell what is inside.
            raise RepositoryRefused(
                f"the host {url.host} is not on the public internet", "send the files instead"
            )
    return judged


def reachable(address: Address, *, allowed: Sequence[Network], refused: Sequence[Network]) -> bool:
    """Whether an address may be connected to: not `refused`, and public or `allowed`."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return reachable(address.ipv4_mapped, allowed=allowed, refused=refused)
        if address.scope_id is not None:
            return False
    if any(address in network for network in refused):
        return False
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in (*_SPECIAL, *_TRANSLATED)):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved
