"""An image in the cluster's open registry whose tag is moved: variants of one that is there already."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class MovingImage:
    """A repository with one tag, `latest`, that points at the variant pushed last."""

    def __init__(self, client: httpx2.Client, source: str, name: str) -> None:
        self._client, self._source, self._name = client, source, name
        self._pushed: list[str] = []

    def push(self, variant: str) -> str:
        """Let the tag point at a variant; return its digest. Variants share all layers."""
        manifest = self._read(f"/v2/{self._source}/manifests/1").json()
        config = self._read(f"/v2/{self._source}/blobs/{manifest['config']['digest']}").json()
        config["config"]["Labels"] = {"variant": variant}
        content = json.dumps(config).encode()
        manifest["config"] |= {"digest": _digest(content), "size": len(content)}
        for layer in manifest["layers"]:
            self._upload({"mount": layer["digest"], "from": self._source})
        started = self._upload({})
        self._client.put(f"{started}&digest={_digest(content)}", content=content).raise_for_status()
        body = json.dumps(manifest).encode()
        path = f"/v2/{self._name}/manifests"
        headers = {"Content-Type": _MANIFEST}
        self._client.put(f"{path}/latest", content=body, headers=headers).raise_for_status()
        self._pushed.append(_digest(body))
        return self._pushed[-1]

    def remove(self) -> None:
        """Remove all that was pushed."""
        for digest in set(self._pushed):
            self._client.delete(f"/v2/{self._name}/manifests/{digest}").raise_for_status()

    def _read(self, path: str) -> httpx2.Response:
        return self._client.get(path, headers={"Accept": _MANIFEST}).raise_for_status()

    def _upload(self, parameters: dict[str, str]) -> str:
        begun = self._client.post(f"/v2/{self._name}/blobs/uploads/", params=parameters).raise_for_status()
        return str(begun.headers["Location"])


@contextmanager
def moving_image(source: str) -> Iterator[tuple[MovingImage, str]]:
    """Give an image of another's layers, and the reference of its tag; remove it afterwards."""
    host, _, path = source.rpartition(":")[0].partition("/")
    name = f"{path}-moving"
    with httpx2.Client(base_url=f"http://{host}") as client:
        image = MovingImage(client, path, name)
        try:
            yield image, f"{host}/{name}:latest"
        finally:
            image.remove()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
