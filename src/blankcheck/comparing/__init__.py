"""Audited runs side by side."""
