"""River's logistic regression as one would write it by hand: one event with its label in, one prediction out."""

import json
from typing import Any

from river import compose, linear_model, preprocessing

POSITIVE = ">50K"


def model() -> Any:
    numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
    strings = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + strings) | linear_model.LogisticRegression()


def answer(model: Any, told: dict[str, Any]) -> dict[str, object]:
    """Predict, then learn."""
    x = told["features"]
    p = model.predict_proba_one(x).get(True, 0.0)
    model.learn_one(x, told["label"] == POSITIVE)
    label = POSITIVE if p > 0.5 else "<=50K"
    return {"id": told["id"], "label": label, "p": {POSITIVE: p, "<=50K": 1 - p}}


def answer_bytes(model: Any, value: bytes) -> bytes:
    return json.dumps(answer(model, json.loads(value))).encode()
