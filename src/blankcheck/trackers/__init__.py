"""Mirrors of a run folder in TensorBoard, MLflow and Weights & Biases: the folder is the truth, a
mirror repeats it."""

from blankcheck.trackers.opening import TRACKERS, check_trackers, connect, mirrored

__all__ = ["TRACKERS", "check_trackers", "connect", "mirrored"]
