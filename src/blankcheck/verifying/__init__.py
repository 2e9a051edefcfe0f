"""A run folder, derived anew and held against what it says."""
