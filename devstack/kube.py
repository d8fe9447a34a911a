"""Requests to a service inside the cluster, through the API server's proxy: works wherever kubectl does."""

import json
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from devstack.errors import DevstackError

_TIMEOUT_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class ServiceProxy:
    """One port of one service."""

    kubeconfig: Path
    namespace: str
    service: str
    port: int

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request; return the status and what the JSON of the answer holds, else its text.

        Raises DevstackError when the cluster does not answer.
        """
        try:
            client: ApiClient = new_client_from_config(config_file=str(self.kubeconfig))
        except ConfigException as error:
            raise DevstackError(f"{self.kubeconfig} cannot be used: {error}") from error
        host = client.configuration.host
        name = urllib.parse.quote(f"{self.service}:{self.port}")
        url = f"{host}/api/v1/namespaces/{self.namespace}/services/{name}/proxy/{path.lstrip('/')}"
        headers: dict[str, str] = {"Accept": "application/json", "Content-Type": "application/json"}
        client.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
        try:
            answer = client.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body),
                timeout=_TIMEOUT_SECONDS,
                retries=False,
            )
        except HTTPError as error:
            raise DevstackError(f"{method} {url}: {error}") from error
        finally:
            client.rest_client.pool_manager.clear()
        text = answer.data.decode(errors="replace")
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text
