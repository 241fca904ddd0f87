"""What recipes need of TPU slices, by the compiler: the tables of docs/hardware.md."""
