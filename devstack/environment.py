"""The two files of settings that a stack leaves, for its processes and its user, and the keys they name."""

import hashlib
import json
from pathlib import Path
from typing import Final

from activities.keyring import load_keyring
from activities.secrets import Opener, new_private_key
from devstack.cluster import Cluster
from devstack.envfile import write_private
from devstack.health import CLUSTER, NAMESPACE
from devstack.settings import (
    GIVEN_CONTEXT,
    GIVEN_KUBECONFIG,
    TEMPORAL_PORT,
    TEMPORAL_UI_PORT,
    Stack,
)

MIRROR_IMAGE: Final = "10.111.0.1:5000/perdure/nginx:1"
"""Of the images of the development cluster."""


def ensure_keys(stack: Stack) -> str:
    """Make the stack's keys where they are missing; return the public half of the seal key, base64."""
    load_keyring(stack.master_keys, create=True)
    if not stack.seal_key.exists():
        write_private(stack.seal_key, f"{new_private_key()}\n")
    return Opener(stack.seal_key.read_text().strip()).public_key


def process_settings(stack: Stack, perdure_kubeconfig: Path, seal_public_key: str) -> dict[str, str]:
    """Return the settings of worker, API and Temporal server."""
    return {
        "PERDURE_ENVIRONMENT": "dev",
        "PERDURE_DATABASE_URL": stack.database_url,
        "PERDURE_OBJECT_STORE": str(stack.state / "objects"),
        "PERDURE_MASTER_KEYS_FILE": str(stack.master_keys),
        "PERDURE_SEAL_PUBLIC_KEYS": json.dumps({CLUSTER: seal_public_key}),
        "PERDURE_SEAL_PRIVATE_KEY_FILE": str(stack.seal_key),
        "PERDURE_CLUSTER": CLUSTER,
        "PERDURE_CLUSTER_KUBECONFIG": str(perdure_kubeconfig),
        "PERDURE_TEMPORAL_ADDRESS": stack.temporal_address,
        "PERDURE_TEMPORAL_NAMESPACE": NAMESPACE,
        "PERDURE_TEMPORAL_UI_URL": stack.temporal_ui_url,
        "PERDURE_HOST": "127.0.0.1",
        "PERDURE_PORT": str(stack.api_port),
        "PERDURE_GRACEFUL_SHUTDOWN_SECONDS": "10",
        "PERDURE_MIRROR_IMAGE": MIRROR_IMAGE,
        TEMPORAL_PORT: str(stack.temporal_port),
        TEMPORAL_UI_PORT: str(stack.temporal_ui_port),
    }


def user_settings(stack: Stack, cluster: Cluster, api_key: str) -> dict[str, str]:
    """Return what a user's shell needs: `set -a; . .dev/env; set +a`."""
    return {
        "PERDURE_URL": stack.api_url,
        "PERDURE_API_KEY": api_key,
        "KUBECONFIG": str(cluster.admin_kubeconfig),
        "TEMPORAL_ADDRESS": stack.temporal_address,
        # What `perdure admin` works on.
        "PERDURE_DATABASE_URL": stack.database_url,
        "PERDURE_CLUSTER_KUBECONFIG": str(cluster.perdure_kubeconfig),
    }


def settings_of(stack: Stack) -> dict[str, str]:
    """Make the keys and return the processes' settings for the stack's cluster."""
    kubeconfig = Cluster(stack).perdure_kubeconfig
    return {
        **process_settings(stack, kubeconfig, ensure_keys(stack)),
        # A cluster made anew has new keys at the same place: what talks to the old one has to start anew too.
        GIVEN_KUBECONFIG: str(stack.given_kubeconfig or ""),
        GIVEN_CONTEXT: stack.given_context,
        "PERDURE_DEV_CLUSTER_DIGEST": hashlib.sha256(kubeconfig.read_bytes()).hexdigest()[:16],
    }
