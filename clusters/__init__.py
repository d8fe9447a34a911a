"""Everything that talks to Kubernetes. Callers see manifests as plain dicts and this package's own errors."""
