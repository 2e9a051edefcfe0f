"""Mirrors of a run folder in TensorBoard, MLflow and Weights & Biases."""

from blankcheck.trackers.following import check_trackers, connect, mirrored
from blankcheck.trackers.libraries import TRACKERS

__all__ = ["TRACKERS", "check_trackers", "connect", "mirrored"]
