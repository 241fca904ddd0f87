"""Training: the three stages, their data, losses, rewards and loop."""
