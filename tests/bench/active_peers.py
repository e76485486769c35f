"""The peers of `active`, in a Python of their own: nothing of streamd is imported here.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install scikit-activeml==1.0.1 vowpalwabbit==9.11.9
    /tmp/peers/bin/python tests/bench/active_peers.py NAME < rows.json    # [[features, label], ...]

Prints [seconds, seconds of processor] of the loop alone: predict, decide, learn what was asked for.
"""

import json
import sys
import time

BUDGET = 0.1


def scikit_activeml(name, rows):
    import numpy as np
    import skactiveml.stream
    from skactiveml.classifier import SklearnClassifier
    from sklearn.naive_bayes import GaussianNB

    X = np.array([list(x.values()) for x, _ in rows])
    y = np.array([int(label == "True") for _, label in rows])
    model = SklearnClassifier(GaussianNB(), classes=[0, 1])
    asker = getattr(skactiveml.stream, name)(budget=BUDGET)
    random = name == "StreamRandomSampling"
    model.partial_fit(X[:10], y[:10])
    began = watch()
    for i in range(len(X)):
        event = X[i : i + 1]
        if random:
            model.predict(event)  # the others predict to decide
            chosen = asker.query(event)
        else:
            chosen = asker.query(event, model)
        asker.update(event, chosen)
        if len(chosen):
            model.partial_fit(event, y[i : i + 1])
    return since(began)


def vowpal_wabbit(rows):
    from vowpalwabbit import Workspace

    model = Workspace("--active --simulation --mellowness 0.01 --quiet --loss_function logistic")
    lines = [
        f"{1 if y == 'True' else -1} | " + " ".join(f"{name}:{value:.6g}" for name, value in x.items())
        for x, y in rows
    ]
    began = watch()
    for line in lines:
        model.learn(line)
    spent = since(began)
    model.finish()
    return spent


def watch():
    return time.perf_counter(), time.process_time()


def since(began):
    return time.perf_counter() - began[0], time.process_time() - began[1]


def main():
    name, rows = sys.argv[1], json.load(sys.stdin)
    print(json.dumps(vowpal_wabbit(rows) if name == "vw" else scikit_activeml(name, rows)))


if __name__ == "__main__":
    main()
