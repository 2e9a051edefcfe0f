"""Several processes and devices at one job."""
