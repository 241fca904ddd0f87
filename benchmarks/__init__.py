"""What `t1 bench` metrics: t1_jax beside PyTorch, on the same weights and tokens."""
