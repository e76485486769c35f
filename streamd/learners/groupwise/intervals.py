"""Intervals that cover as often as declared on every group: what is guaranteed.

The half-width of an event is the sum of its awake groups' stakes. Each group is a Krichevsky-Trofimov bettor
(Orabona, Pal 2016, arXiv 1602.04128) on the miss: with c = 1{missed} - alpha, n bets so far, their sum S and its
wealth W (1 at first, the width of the range), its stake is W S / (n + 1); after the label W += c stake, S += c.
There is no rate to choose. Betting for conformal intervals is Podkopaev, Xu, Lee 2024 (ICML); parameter-free and
for groups, Bharti, Pal, Teneggi, Sulam 2026 (arXiv 2606.00419). The bound below is derived here.

    Let q be the half-width and s the distance of the label, within [0, 1]. A miss has q < s <= 1, so c q is at
    most 1 - alpha; a hit has q >= s >= 0, so c q <= 0. All wealth together is thus at most |G| + (1 - alpha)
    misses. No bettor's wealth is negative, so each has at most that; and a KT bettor's wealth is at least 2^n
    Gamma((n+1+S)/2) Gamma((n+1-S)/2) / (pi n!). Hence |S|, how far a group's misses are from alpha n, is bounded
    by about sqrt(2 n ln(|G| + T)), whatever the data, their order and the overlap of the groups.

The distance is |y - value|; with quantiles how far y lies outside the outermost ones (Romano, Patterson, Candes
2019); with classes 1 - p(y). Labels that come late are bets at the stakes of their day of arrival: wealth stays
positive, and the bound is then not guaranteed.
"""

import math


def bound(n: float, everyones_wealth: float) -> float:
    """The largest |S| a group of n bets can have when all wealth together is at most `everyones_wealth`."""
    if n <= 0:
        return 0.0
    budget = math.log(max(everyones_wealth, 1.0))
    low, high = 0.0, n
    if log_wealth(n, high) <= budget:
        return n
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if log_wealth(n, middle) <= budget else (low, middle)
    return high


def log_wealth(n: float, S: float) -> float:
    """The logarithm of the least wealth of a KT bettor that began with 1, after n bets of sum S, |S| <= n."""
    part = math.lgamma((n + 1 + S) / 2) + math.lgamma((n + 1 - S) / 2)
    return n * math.log(2.0) + part - math.log(math.pi) - math.lgamma(n + 1)
