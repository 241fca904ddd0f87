"""Floor 2: weights and tokenisers in and out."""
