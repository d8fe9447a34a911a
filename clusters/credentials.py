"""Where a cluster is and how to sign in to it: the only module that knows the Kubernetes client.

The client reads kubeconfig files and in-cluster service accounts, with everything that those may hold.
Requests are made on aiohttp directly: building the client's model objects costs more than the request itself.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, kube_config, load_incluster_config, load_kube_config

from clusters.errors import Unavailable, bounded

_TOKEN: Final = "BearerToken"  # noqa: S105 - the client's name for the header, not a secret


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server and how to speak to it. `loopback`: never through a proxy of the environment."""

    url: str
    tls: ssl.SSLContext
    server_name: str | None
    proxy: str | None
    loopback: bool


class Credentials:
    """A cluster's address and the token for it, read again when the cluster rejects it."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        # The client is untyped; what leaves this class is not.
        self._loaded: Any = None

    async def endpoint(self) -> Endpoint:
        """Read the configuration. `Unavailable` when it is missing or wrong."""
        await self._load()
        configuration = self._loaded
        try:
            tls: ssl.SSLContext = RESTClientObject(configuration).ssl_context
        except OSError as error:
            raise Unavailable(f"the cluster's certificates cannot be read: {error}", sent=False) from error
        finally:
            _forget_files()
        url = str(configuration.host).rstrip("/")
        return Endpoint(
            url, tls, configuration.tls_server_name or None, configuration.proxy or None, _is_loopback(url)
        )

    async def reload(self) -> None:
        """Read tokens again: files that were rotated, plugins whose tokens have expired."""
        try:
            await self._load()
        finally:
            _forget_files()

    async def _load(self) -> None:
        configuration = Configuration()
        try:
            if self._kubeconfig is None:
                load_incluster_config(configuration)
            else:
                await load_kube_config(
                    str(self._kubeconfig), self._context, configuration, persist_config=False
                )
        except (ConfigException, OSError, ValueError) as error:
            raise Unavailable(bounded(f"no usable cluster configuration: {error}"), sent=False) from error
        self._loaded = configuration

    async def authorization(self) -> str | None:
        """Return the Authorization header, None with client certificates.

        In-cluster tokens are read again each minute.
        """
        header = await self._loaded.get_api_key_with_prefix(_TOKEN, alias="authorization")
        return str(header) if header else None


def _forget_files() -> None:
    """Remove the files in which the client keeps certificates and keys that stood in a kubeconfig.

    It removes them itself when the process ends in good order, which not every process does.
    """
    kube_config._cleanup_temp_files()


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
