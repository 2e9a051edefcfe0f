"""Prove: sound bounds over all sparse images at once."""

from blankcheck.certifying.bounds import Bounded, bound_layers
from blankcheck.certifying.certificate import SLOPE_STEPS, certify, confirm
from blankcheck.certifying.gate import Gated, GatePlan, fit_gate, gate_network
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.log_odds import Penalty, Ramp, log_odds_bounds, rounding_slack
from blankcheck.certifying.record import Certificate, Level
from blankcheck.certifying.trace import Network, read_network

__all__ = [
    "SLOPE_STEPS",
    "Bounded",
    "Certificate",
    "GatePlan",
    "Gated",
    "Level",
    "Network",
    "Penalty",
    "Ramp",
    "Sparse",
    "bound_layers",
    "certify",
    "confirm",
    "fit_gate",
    "gate_network",
    "log_odds_bounds",
    "read_network",
    "rounding_slack",
]
