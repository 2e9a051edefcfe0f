"""A check of your own beside the others: score every image that has one lit pixel, which no
search can do better."""

from dataclasses import replace

import torch

import blankcheck as bc
from blankcheck.auditing import Twin
from blankcheck.classifiers import TrainingPlan, build, probabilities, train_plainly
from blankcheck.judging import Control, Finding, judge, run_checks
from blankcheck.judging.check_rules import finds_no_more
from blankcheck.judging.checks import Check
from blankcheck.testing import stripes, stripes_template

ONE_PIXEL = Check(
    code="one-pixel",
    title="No single pixel is enough",
    means="Where there are few images, trying them all beats any search.",
    what_to_do="The search missed what is there: use --preset proof.",
    look=finds_no_more,  # found nothing: passed; else failed
    mandatory=True,  # RESISTED needs it passed
)


def one_pixel(audit: bc.Audit, shape: tuple[int, int, int]) -> Control:
    """The experiment. It says in plain numbers what it saw: `found` of `tries`."""
    images = torch.eye(shape[0] * shape[1] * shape[2]).view(-1, *shape)
    surest = probabilities(audit.classifier, images).amax(dim=1)
    found = int((surest >= audit.evidence.conditions.confidence).sum())
    return Control("one-pixel", found, len(images), "Every image with one fully lit pixel")


def with_one_pixel(audit: bc.Audit, shape: tuple[int, int, int]) -> tuple[bc.Verdict, Finding]:
    """The verdict with the further check, and what the check said."""
    evidence = replace(audit.evidence, controls=(*audit.evidence.controls, one_pixel(audit, shape)))
    finding = ONE_PIXEL.run(evidence)
    return judge(evidence, (*run_checks(evidence), finding)), finding


data = stripes(720)
plain = build("mlp", data.shape, 2, data.mean_and_std())
train_plainly(plain, data.train, TrainingPlan(epochs=10))
twin = Twin(plain, "logits", "a plain network")
results = []
for model in (stripes_template(), plain):
    audit = bc.audit(model, data, preset="smoke", twin=lambda: twin)
    results.append(with_one_pixel(audit, data.shape))
    print("{0}: {1.status}. {1.finding}".format(*results[-1]))
