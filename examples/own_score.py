"""A score of your own for the out-of-distribution test: what else real images have that fooling
images lack."""

from collections.abc import Callable

from torch import Tensor

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build, train_plainly


def fit(real: Tensor) -> Callable[[Tensor], Tensor]:
    """From real images (n, c, h, w) in [0, 1] to what scores images, (m, c, h, w) -> (m, 1): larger
    is further."""
    height = real.shape[2] // 2

    def lopsided(images: Tensor) -> Tensor:
        return images[:, :, :height].sum(dim=(1, 2, 3)) - images[:, :, height:].sum(dim=(1, 2, 3))

    usual = lopsided(real).median()
    return lambda images: (lopsided(images) - usual).abs()[:, None]


lopsided = bc.Score(("top-heavy or bottom-heavy",), fit)

data = bc.load_data("digits")
model = build("mlp", data.shape, len(data.classes), data.mean_and_std())
train_plainly(model, data.train, TrainingPlan(epochs=20))
audit = bc.audit(model, data, preset="smoke", scores=(*bc.FIRST, lopsided))
print(audit.verdict, audit.json["out_of_distribution_test"]["scores"])

# What each score alone thinks of the witnesses. The guarantee holds for the test as a whole,
# whatever its scores.
judge = bc.OODTest.fit(data.halves[1].images, level=0.01, scores=(*bc.FIRST, lopsided))
each = judge.score_p_values(audit.witnesses["images"]).median(dim=0).values
print({name: round(float(p), 3) for name, p in zip(judge.names, each, strict=True)})
