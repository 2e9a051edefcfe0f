"""Fooling images added to real ones."""
