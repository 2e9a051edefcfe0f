"""Derive a run folder anew and compare: what a file says is never what is checked."""
