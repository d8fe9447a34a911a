"""The commands, one module per noun. They load HTTP, models and YAML only when they run."""
