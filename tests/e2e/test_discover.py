"""What a project runs in a cluster already, found in its manifests, runs as an environment."""

import pytest

from tests.e2e.conftest import TINY
from tests.helpers.stack import Stack

pytestmark = pytest.mark.cluster

MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME-backend}
spec:
  replicas: 1
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      initContainers: [{name: wait, image: IMAGE}]
      containers:
      - name: backend
        image: IMAGE
        command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"]
        ports: [{containerPort: 8080, name: http}]
        envFrom: [{configMapRef: {name: settings}}]
        env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: NAME, key: token}}}]
        readinessProbe: {exec: {command: [test, -f, /etc/app/app.ini]}, periodSeconds: 1}
        resources: {requests: {cpu: 10m}, limits: {memory: 32Mi}}
        volumeMounts: [{name: settings, mountPath: /etc/app}, {name: data, mountPath: /data}]
      volumes:
      - {name: settings, configMap: {name: settings, items: [{key: app.ini, path: app.ini}]}}
      - {name: data, persistentVolumeClaim: {claimName: data}}
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec: {selector: {app: backend}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {LEVEL: info, app.ini: "[app]"}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: NAME}
stringData: {token: planted-of-another-cluster}
"""


def test_manifests_become_a_running_environment(stack: Stack, name: str) -> None:
    content = MANIFESTS.replace("NAME", name).replace("IMAGE", TINY)
    wish = {"name": name, "files": [{"path": "k8s/all.yaml", "content": content}]}
    response = stack.client.post("/v1/environments/discover", json=wish)
    assert response.status_code == 200, response.text
    found = response.json()["data"]
    assert found["valid"], found["errors"]
    assert [each["path"] for each in found["unsupported"]] == ["[0].spec.template.spec.initContainers"]
    (service,) = found["blueprint"]["services"]
    (secret,) = service["secrets"]
    stored = stack.client.put(f"/v1/secrets/{secret['name']}", json={"value": "of-this-one"})
    assert stored.status_code in (200, 201), stored.text
    made = stack.create(found["blueprint"])
    made.succeeded()
    said = made.sh("sts/backend", 'echo "$TOKEN $LEVEL $(cat /etc/app/app.ini)" && test -d /data')
    assert said == "of-this-one info [app]"
    made.delete().succeeded()
