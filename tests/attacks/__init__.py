"""Attacks as tests: each must succeed against a weakened copy (weak/) and fail against the product."""
