"""The development stack, Temporal, worker and API, on the development cluster: `python -m devstack dev`."""
