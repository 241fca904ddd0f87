"""Measures the service: `python -m benchmarks.serve`, and `python -m benchmarks.serve.adaptive`."""
