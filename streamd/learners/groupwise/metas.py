"""The meta-algorithms: who may be combined with what, and the bound each of them keeps.

In each event the awake groups' experts hold weights p, and r = (loss played) - (own loss) is added to R, |r| to C:

    anh     AdaNormalHedge (Luo, Schapire 2015, arXiv 1502.05934), the meta of Acharya et al. 2023 (2310.04652):
            p ~ q (w(R, C) + floor), w = (Phi(R+1, C+1) - Phi(R-1, C+1)) / 2, Phi(R, C) = exp(max(R, 0)^2 / 3C);
            with floor 0 and all w = 0, p ~ q.  R <= sqrt(3 C ln(B / q))
    aa      Vovk's Aggregating Algorithm for specialists, rate 2, squared loss.       regret <= ln(1/q) / 2
    ewa     specialists' exponential weights, rate 1/2, squared or Brier loss.        regret <= 2 ln(1/q)
    bayes   specialists' Bayes mixture, log loss (Freund et al. 1997).                regret <= ln(1/q) nats
    mlpoly  ML-Poly (Gaillard, Stoltz, van Erven 2014): p ~ q max(R, 0) / (V + largest r^2), V = sum r^2.
            R <= sqrt((V + largest r^2) A / q), A = sum q r^2 / (V + largest r^2) as spent so far

"Loss played" is, by accounting, `expected` (the p-mean of the losses), `mixture` (of the p-mean), or `gradient`
(linearised: R competes with the best mixture of models, and for squared loss the loss's regret is at most 2 R).
q is a group's prior mass over the mass of all groups ever born, for pairs the product of two. B is

    1 + 3/2 sum of q (1 + ln(1 + C)) over the experts ever played + floor times the mass awake, summed over labels

The bounds hold for labels that come before the next prediction; labels that come late may exceed them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from streamd.errors import ConfigError
from streamd.kernels import groupwise as kernel

METAS = {"anh": kernel.ANH, "aa": kernel.AA, "ewa": kernel.EWA, "bayes": kernel.BAYES, "mlpoly": kernel.MLPOLY}
ACCOUNTINGS = {"expected": kernel.EXPECTED, "mixture": kernel.MIXTURE, "gradient": kernel.GRADIENT}
EXPERTS = {"own": kernel.OWN, "own+everyone": kernel.EVERYONE, "pairs": kernel.PAIRS}
PLAYS = {"average": kernel.AVERAGE, "sampled": kernel.SAMPLED}
LOSSES = {
    "squared": kernel.SQUARED,
    "pinball": kernel.PINBALL,
    "log": kernel.LOG,
    "brier": kernel.BRIER,
    "zero_one": kernel.ZERO_ONE,
}
RATES = {"aa": 2.0, "ewa": 0.5}
FITS = {"aa": ("squared",), "ewa": ("squared", "brier"), "bayes": ("log",)}
LEAST = 1e-6  # a probability counts as no less in the log loss


def accounting_of(meta: str, loss: str, accounting: str | None, play: str) -> str:
    """The accounting; where none is declared, the one that fits. Raises ConfigError if they do not fit."""
    if meta in FITS and loss not in FITS[meta]:
        raise ConfigError("meta", f'"{meta}" is for {" or ".join(FITS[meta])} loss, not for {loss}')
    if accounting is None:
        accounting = "mixture" if meta in FITS else "expected"
    if meta in FITS and accounting != "mixture":
        raise ConfigError("accounting", f'the bound of "{meta}" is for "mixture"')
    if play == "sampled" and accounting != "expected":
        raise ConfigError("play", '"sampled" goes with "expected" accounting')
    if accounting == "gradient" and loss in ("log", "zero_one"):
        raise ConfigError("accounting", f'"gradient" needs a loss of bounded slope, which {loss} loss has not')
    if accounting == "mixture" and loss == "zero_one":
        raise ConfigError("accounting", '"mixture" needs a convex loss')
    return accounting


def rate(meta: str) -> float:
    """The exponent's factor for losses scaled to [0, 1]; log loss is scaled by ln(1/LEAST)."""
    return math.log(1.0 / LEAST) if meta == "bayes" else RATES.get(meta, 1.0)


def bounds(
    meta: str, experts: str, E: NDArray[np.float64], q: NDArray[np.float64], totals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(S, X, J): what R cannot exceed, in losses scaled to [0, 1]; 0 where no expert has played.

    E: (S, X, J, 2 or 3), totals: as the kernel keeps them. q: (S,) prior masses.
    """
    C = E[..., kernel.SIZE]
    prior = q[:, None, None] * (q[None, :, None] if experts == "pairs" else np.ones((1, C.shape[1], 1)))
    power = 2 if experts == "pairs" else 1
    seats = C.shape[1] if experts == "own+everyone" else 1
    mass = totals[kernel.TOTALS.index("mass")] ** power * seats
    share = np.where(prior > 0.0, prior, 1.0) / mass
    if meta == "anh":
        spent = 1.5 * (prior * np.where(C > 0.0, 1.0 + np.log1p(C), 0.0)).sum(axis=(0, 1))
        spent = spent + totals[kernel.TOTALS.index("retired")] + totals[kernel.TOTALS.index("floored")]
        return np.asarray(np.sqrt(3.0 * C * np.log((1.0 + spent / mass) / share)))
    if meta == "mlpoly":
        scale = E[..., kernel.EXTRA] + totals[kernel.TOTALS.index("largest")]
        return np.asarray(
            np.sqrt(scale * totals[kernel.TOTALS.index("spent")] / np.where(prior > 0.0, prior, 1.0))
        )
    return np.asarray(np.where(C > 0.0, np.log(1.0 / share) / rate(meta), 0.0))
