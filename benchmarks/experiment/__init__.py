"""The experiment of docs/experiment.md: what each stage, and the thought itself, are worth."""
