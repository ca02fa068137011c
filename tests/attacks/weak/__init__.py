"""Weakened copies of the product, each with one rule left out. Nothing under src can reach them."""
