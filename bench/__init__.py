"""Benchmarks: what is claimed about speed is measured here, on one run, side by side."""
