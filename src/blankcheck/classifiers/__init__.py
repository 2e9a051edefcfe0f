"""What is searched: users' networks, reference networks, and plain training."""

from blankcheck.classifiers.loading import load_model
from blankcheck.classifiers.reference import ARCHITECTURES, build
from blankcheck.classifiers.training import TrainingPlan, evaluate, train_plainly
from blankcheck.classifiers.wrapper import (
    OUTPUT_FORMS,
    UnitClassifier,
    fingerprint,
    output_form,
    probabilities,
)

__all__ = [
    "ARCHITECTURES",
    "OUTPUT_FORMS",
    "TrainingPlan",
    "UnitClassifier",
    "build",
    "evaluate",
    "fingerprint",
    "load_model",
    "output_form",
    "probabilities",
    "train_plainly",
]
