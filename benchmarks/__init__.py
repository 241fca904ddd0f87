"""What `t1 bench` measures: t1_jax beside PyTorch, on the same weights and tokens."""
