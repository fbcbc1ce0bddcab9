"""Weights and logs of published scripts, read without running any of their code, as run folders."""
