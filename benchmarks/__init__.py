"""Ours, floors below it and peers beside it, on the same made-up districts in one run: `make bench`, or `python -m benchmarks --help`."""
