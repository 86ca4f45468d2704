"""Trunkline: a self-hosted communications cloud in which any host may die at any moment."""
