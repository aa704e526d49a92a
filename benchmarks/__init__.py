"""Benchmarks: run from the repository's root, they write ``results/``."""
