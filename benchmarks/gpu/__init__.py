"""One command that proves T1 on one NVIDIA GPU, and its rehearsal on a CPU: docs/gpu_check.md."""
