"""The values PySS3 0.6.5 computes, where the checkout has them beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[3] / "shared" / "golden" / "ss3_pyss3.json"
present = pytest.mark.skipif(not PATH.exists(), reason="../shared/golden/ss3_pyss3.json is not there")
GOLDEN: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "sigma": case["s"],
        "lam": case["l"],
        "rho": case["p"],
        "alpha": case["a"],
        "n_grams": case["n_grams"],
        "confidence": case.get("cv_m", "norm_gv_xai"),
        "significance": case.get("sg_m", "xai"),
        "compatibility": "pyss3",
    }
