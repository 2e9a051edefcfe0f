"""Harden a small network, and search it and a plain one for images that meet all three conditions.

`bc.audit(hardened.model, data)` says what such a failed search is worth: it puts the search itself
on trial.
"""

import blankcheck as bc
from blankcheck.auditing import ood_test
from blankcheck.classifiers import TrainingPlan, build, evaluate, train_plainly

data = bc.load_data("digits")
plain = build("mlp", data.shape, len(data.classes), data.mean_and_std())
train_plainly(plain, data.train, TrainingPlan(epochs=40))

# Eighty epochs in one round are quick; leave them out for the usual, better hardening.
hardened = bc.harden("mlp", data, epochs=80, rounds=1, fresh_attempts=20)
hardened.save("runs/hardened", overwrite=True)

judge = ood_test(data, level=0.01)
fooled, real = {}, {}
for name, model in (("plain", plain), ("hardened", hardened.model)):
    fooled[name] = (
        bc.fool(model, range(10), 5, data=data, steps=200, accept=judge.accepts).met.float().mean()
    )
    real[name] = evaluate(model, data.test, classes=10, confidence=0.9)
    print(
        f"{name:>8}: {fooled[name]:.0%} of attempts fooled; real test images "
        f"{real[name].accuracy:.1%} right, "
        f"{real[name].confident:.1%} right and confident"
    )
