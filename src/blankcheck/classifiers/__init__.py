"""What is searched: users' networks, reference networks, and plain training."""

from typing import TYPE_CHECKING

from blankcheck.lazily import exported

if TYPE_CHECKING:
    from blankcheck.classifiers.loading import load_model as load_model
    from blankcheck.classifiers.reference import ARCHITECTURES as ARCHITECTURES
    from blankcheck.classifiers.reference import build as build
    from blankcheck.classifiers.training import TrainingPlan as TrainingPlan
    from blankcheck.classifiers.training import evaluate as evaluate
    from blankcheck.classifiers.training import train_plainly as train_plainly
    from blankcheck.classifiers.wrapper import OUTPUT_FORMS as OUTPUT_FORMS
    from blankcheck.classifiers.wrapper import UnitClassifier as UnitClassifier
    from blankcheck.classifiers.wrapper import fingerprint as fingerprint
    from blankcheck.classifiers.wrapper import output_form as output_form
    from blankcheck.classifiers.wrapper import probabilities as probabilities

__getattr__ = exported(
    __name__,
    loading="load_model",
    reference="ARCHITECTURES build",
    training="TrainingPlan evaluate train_plainly",
    wrapper="OUTPUT_FORMS UnitClassifier fingerprint output_form probabilities",
)
