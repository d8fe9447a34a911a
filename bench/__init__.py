"""Benchmarks: measured on the real cluster, beside plain kubectl in the same run. `make bench`."""
