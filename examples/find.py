"""Find fooling images: the sparsest ones, in a part of the image only, and then only those that
look like no real data."""

import torch

import blankcheck as bc
from blankcheck.auditing import ood_test
from blankcheck.classifiers import TrainingPlan, build, train_plainly

data = bc.load_data("digits")
model = build("mlp", data.shape, len(data.classes), data.mean_and_std())
train_plainly(model, data.train, TrainingPlan(epochs=20))

# Ten for each of three classes, as sparse as 200 backward passes make them; only the upper half may
# be lit.
upper = torch.zeros(1, 8, 8, dtype=torch.bool)
upper[:, :4] = True
found = bc.fool(
    model, [0, 1, 2], 10, data=data, steps=200, until="sparsest", mask=upper, confidence=0.9
)
for target in (0, 1, 2):
    met = found.rows(
        found.met & (found.targets == target)
    )  # what was not found is data, too: `outcome` says why
    print(f"class {target}: {len(met)} of 10, lit features {sorted(met.lit.tolist())}")

# `accept` is any further wish, from images to booleans. Here: a calibrated test says that real data
# does not look like this.
judge = ood_test(data, level=0.01)
strict = bc.fool(model, [0, 1, 2], 10, data=data, steps=200, accept=judge.accepts)
largest = judge.p_values(strict.images).max()
print(
    f"{int(strict.met.sum())} of {len(strict)} meet all three conditions; the largest p-value is "
    f"{largest:.4f}"
)
