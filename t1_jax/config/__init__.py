"""Frozen dataclasses from YAML and key.sub=value, and back."""
