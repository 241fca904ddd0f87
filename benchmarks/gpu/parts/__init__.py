"""The parts of the check; each is a program: `python -m benchmarks.gpu.parts.<name>`."""
