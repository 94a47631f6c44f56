"""Subquadratic sparse attention (in progress)."""
