"""The report of a run folder, drawn from its files alone."""
