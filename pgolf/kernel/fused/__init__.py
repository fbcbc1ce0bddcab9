"""Triton kernels; each has an eager twin in pgolf.kernel that defines what it computes."""
