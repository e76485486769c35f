"""Every kernel at once, for an image whose containers are to start without compiling:
`python -m streamd.wiring.compiling`."""

from streamd import kernels
from streamd.kernels import ss3
from streamd.matching.probabilities import Source
from streamd.matching.rules import Rule
from streamd.matching.warm_up import warm_up

SOURCES = (Source(), Source("beta", explore="thompson"), Source("logistic"))
RULES = (Rule(), Rule(f="k_b"), Rule("random"))


def compile_all() -> None:
    """Compile, or load, what any pipeline calls; minutes the first time."""
    kernels.load()
    ss3.load()
    for source in SOURCES:
        for rule in RULES:
            warm_up(rule, source, hindsight=True)


if __name__ == "__main__":
    compile_all()
