"""Prompts and token batches."""
