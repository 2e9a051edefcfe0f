"""Public fakes: classifiers with planted answers, data that needs no download, and a zoo of
deceivers to try audits on."""

from blankcheck.testing.toys import Constant, NaNAfter, Planted, Template, stripes, stripes_template
from blankcheck.testing.zoo import KINDS, NAMES, Member, member, zoo

__all__ = [
    "KINDS",
    "NAMES",
    "Constant",
    "Member",
    "NaNAfter",
    "Planted",
    "Template",
    "member",
    "stripes",
    "stripes_template",
    "zoo",
]
