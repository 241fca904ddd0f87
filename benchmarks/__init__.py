"""What `t1 bench` measures: this package beside PyTorch, on the same weights and the same tokens."""
