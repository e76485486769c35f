"""Online matching with stochastic rewards: arrivals matched at once, irrevocably, to resources that may fail.

After Huang et al. 2023 (arXiv 2309.10289) and its line. Pure state machines: no clock, no I/O, no global
randomness.

    balance         how much of its worth a resource keeps at a load (the functions k, their tables)
    certificate     the ratio a function is good for, computed from the proofs' inequalities
    rules           greedy, Stochastic Balance, Ranking, Perturbed Greedy, MSVV, random; what each promises
    names, resources    who can be matched: capacity, refill, pacing, skills, groups; 200 bytes each
    probabilities   p from the event, or learned: Beta posteriors, logistic
    attempts        what was promised and is still open, or remembered
    segments        edge sets kept under a name
    arrivals, choosing  what comes, and which edge it gets
    pool            all of these together: decide, apply, settle
    bounds          the hindsight optima: matching LP, stochastic configuration LP, exact for tiny pools
    window, hindsight   a pool's last arrivals, judged against their LP, beside other rules
    replay          every rule on a recorded stream, against the bounds
"""
