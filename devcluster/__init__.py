"""A real Kubernetes cluster for development and tests: ``python -m devcluster up``."""
