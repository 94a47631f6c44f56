"""Texts, questions and request traces for the studies: seeded, and nothing is downloaded."""
