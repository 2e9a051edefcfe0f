"""Prove: sound bounds over all sparse images at once."""

from typing import TYPE_CHECKING

from blankcheck.lazily import exported

if TYPE_CHECKING:
    from blankcheck.certifying.bounds import bound_layers as bound_layers
    from blankcheck.certifying.certificate import certify as certify
    from blankcheck.certifying.certificate import confirm as confirm
    from blankcheck.certifying.gate import Gated as Gated
    from blankcheck.certifying.gate import fit_gate as fit_gate
    from blankcheck.certifying.gate import gate_network as gate_network
    from blankcheck.certifying.hull import Sparse as Sparse
    from blankcheck.certifying.log_odds import Penalty as Penalty
    from blankcheck.certifying.log_odds import Ramp as Ramp
    from blankcheck.certifying.log_odds import log_odds_bounds as log_odds_bounds
    from blankcheck.certifying.log_odds import rounding_slack as rounding_slack
    from blankcheck.certifying.record import SLOPE_STEPS as SLOPE_STEPS
    from blankcheck.certifying.record import Certificate as Certificate
    from blankcheck.certifying.record import GatePlan as GatePlan
    from blankcheck.certifying.record import Level as Level
    from blankcheck.certifying.relaxation import Bounded as Bounded
    from blankcheck.certifying.trace import Network as Network
    from blankcheck.certifying.trace import read_network as read_network

__getattr__ = exported(
    __name__,
    bounds="bound_layers",
    certificate="certify confirm",
    gate="Gated fit_gate gate_network",
    hull="Sparse",
    log_odds="Penalty Ramp log_odds_bounds rounding_slack",
    record="SLOPE_STEPS Certificate GatePlan Level",
    relaxation="Bounded",
    trace="Network read_network",
)
