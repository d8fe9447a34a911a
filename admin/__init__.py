"""`perdure admin`: what takes the database itself, not the API. A program of its own: `python -m admin`."""
