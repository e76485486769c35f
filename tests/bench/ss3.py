"""SS3 against PySS3 0.6.5 in the same run: `python -m tests.bench.ss3 [--pyss3 PYTHON] [--terms N] [--long]`.

PYTHON is an interpreter that has pyss3 0.6.5 (`pip install pyss3==0.6.5` in an environment of its own); it is run
beside this one on the same documents. Without it only streamd is measured.

    stream      classify, then learn, exact after every document (PySS3: learn(update=True), timed at the end only)
    classify    after learning
    memory      of the counts, and of a snapshot of them, per (term, category)
    curve       microseconds a document as the vocabulary grows: the same stream, at more and more terms
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from streamd.learners.ss3.model import SS3Classifier
from streamd.snapshot import encode

Documents = list[tuple[str, str]]

PYSS3 = """
import json, sys, time
from pyss3 import SS3
import pyss3
pyss3.set_verbosity(0)
given = json.load(open(sys.argv[1]))
model = SS3()
for text, label in given["documents"]:
    model.learn(text, label, n_grams=given["n_grams"], update=False)
model.update_values(force=True)
def timed(work, items):
    start = time.process_time()
    for item in items:
        work(item)
    return len(items) / (time.process_time() - start)
def step(document):
    model.classify(document[0], sort=False)
    model.learn(*document, n_grams=given["n_grams"], update=True)
classify = timed(lambda document: model.classify(document[0], sort=False), given["probe"])
print(json.dumps({"stream": timed(step, given["probe"][: given["steps"]]), "classify": classify}))
"""


def banking77() -> Documents:
    packed = resources.files("streamd").joinpath("samples/banking77.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    order = np.random.default_rng(3).permutation(len(rows))
    return [(rows[i]["text"], rows[i]["category"]) for i in order]


def zipf(terms: int, documents: int, seed: int = 5) -> Iterator[tuple[str, str]]:
    """40 words a document, Zipf 1.1 over `terms` words; each of 4 categories prefers its own quarter by half."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, terms + 1) ** 1.1
    ends = np.cumsum(weights / weights.sum())
    for _ in range(documents):
        label = int(rng.integers(4))
        words = np.minimum(np.searchsorted(ends, rng.random(40)), terms - 1)
        own = rng.random(40) < 0.5
        words = np.where(own, words // 4 * 4 + label, words) % terms
        yield " ".join(f"w{_letters(int(word))}" for word in words), f"c{label}"


def _letters(number: int) -> str:
    name = ""
    while number or not name:
        number, digit = divmod(number, 26)
        name += chr(97 + digit)
    return name


def stream(model: SS3Classifier, documents: Documents, batch: int = 500) -> float:
    """Documents per second of CPU, classified, then learned; 0.5 k a run."""
    start = time.process_time()
    for first in range(0, len(documents), batch):
        steps = model.steps()
        for text, label in documents[first : first + batch]:
            row = steps.row(text)
            steps.predict(row)
            steps.learn(row, label)
        steps.execute()
    return len(documents) / (time.process_time() - start)


def classify(model: SS3Classifier, documents: Documents) -> float:
    start = time.process_time()
    model._predict(text for text, _ in documents)
    return len(documents) / (time.process_time() - start)


def compared(name: str, documents: Documents, n_grams: int, python: str | None, steps: int) -> None:
    model = SS3Classifier(n_grams=n_grams)
    probe = documents[-500:]
    model.learn_many([text for text, _ in documents], [label for _, label in documents])
    found = {"stream": stream(model, probe, batch=100), "classify": classify(model, probe)}
    peer = _peer(documents, probe, n_grams, steps, python) if python else {}
    for what, rate in found.items():
        ratio = f", {rate / peer[what]:9,.0f} times PySS3's {peer[what]:9,.2f}" if peer else ""
        print(f"{name:26} {what:9} {rate:9,.0f} documents/s{ratio}", flush=True)
    _print_memory(name, model)


def _peer(documents: Documents, probe: Documents, n_grams: int, steps: int, python: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        script, given = Path(folder, "peer.py"), Path(folder, "given.json")
        script.write_text(PYSS3)
        given.write_text(json.dumps({"documents": documents, "probe": probe, "n_grams": n_grams, "steps": steps}))
        done = subprocess.run([python, str(script), str(given)], capture_output=True, text=True, check=True)
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def _print_memory(name: str, model: SS3Classifier) -> None:
    pairs, state = model.pairs, model.state()
    _, _, chunks = encode(state)
    raw = sum(array.nbytes for array in state.arrays.values()) / pairs
    packed = sum(len(chunk) for chunk in chunks) / pairs
    table = (sys.getsizeof(model._ids) + sum(map(sys.getsizeof, model._ids)) + 32 * len(model._ids)) / pairs
    print(
        f"{name:26} memory    {model.memory / pairs:.0f} bytes a (term, category) for counts, {table:.0f} for "
        f"names of words; snapshot {raw:.0f}, compressed {packed:.0f} ({pairs:,} pairs, {model.terms:,} terms)",
        flush=True,
    )


def curve(largest: int) -> None:
    """A category's worth of words first, each twice, so that they count; then 2,000 documents over them."""
    terms = 1000
    while terms <= largest:
        model = SS3Classifier(max_terms=1 << 21)
        words = [f"w{_letters(i)}" for i in range(terms)]
        for first in range(0, terms, 1000):
            text = " ".join(words[first : first + 1000])
            model.learn_many([text] * 2, [f"c{first // 1000 % 4}"] * 2)
        documents = list(zipf(terms, 3000))
        model.learn_many([text for text, _ in documents[:1000]], [label for _, label in documents[:1000]])
        rate = stream(model, documents[1000:], batch=500)
        print(f"curve {model.terms:>9,} terms: {1e6 / rate:6.0f} microseconds a document", flush=True)
        terms *= 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pyss3", help="a Python that has pyss3 0.6.5")
    parser.add_argument("--terms", type=int, default=1_000_000, help="where the curve ends")
    parser.add_argument("--only", choices=("banking77", "zipf", "curve"))
    options: Any = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "banking77": lambda: _banking77(options.pyss3),
        "zipf": lambda: _zipf(options.pyss3),
        "curve": lambda: curve(options.terms),
    }
    stream(SS3Classifier(), [("to compile", "a")])
    for name, part in parts.items():
        if options.only in (None, name):
            part()


def _banking77(python: str | None) -> None:
    documents = banking77()
    model = SS3Classifier()
    print(f"{'banking77, from the start':26} stream    {stream(model, documents):9,.0f} documents/s", flush=True)
    compared("banking77", documents, 1, python, steps=2)
    compared("banking77, 3-grams", documents, 3, None, steps=0)


def _zipf(python: str | None) -> None:
    documents = list(zipf(20_000, 12_000))
    model = SS3Classifier()
    print(f"{'20,000 terms, from start':26} stream    {stream(model, documents):9,.0f} documents/s", flush=True)
    compared("20,000 terms", documents, 1, python, steps=5)
    compared("20,000 terms, 3-grams", documents[:4000], 3, None, steps=0)


if __name__ == "__main__":
    main()
