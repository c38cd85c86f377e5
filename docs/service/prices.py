"""What both services serve: the price of a flat at every place of a town, told by a model from a file.

``python docs/service/prices.py`` trains the model on made-up sales and writes the file, once, about 60 MiB.
"""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

MODEL_FILE = Path(os.environ.get("MODEL_FILE", Path(__file__).with_name("prices.joblib")))

_SALES = 56_000
_PLACES = np.linspace(0, 1, 400)  # in either direction


def price_map(model: ExtraTreesRegressor, rooms: int, age: int) -> np.ndarray:
    """What such a flat costs, at 400 × 400 places: 1.2 MiB."""
    east, north = (axis.ravel() for axis in np.meshgrid(_PLACES, _PLACES))
    prices = model.predict(np.column_stack([east, north, np.full_like(east, rooms), np.full_like(east, age)]))
    return prices.reshape(len(_PLACES), len(_PLACES))


def train() -> None:
    """Learn from made-up sales and write the model."""
    random = np.random.default_rng(seed=1)
    east, north = random.random((2, _SALES))
    rooms, age = random.integers(1, 7, _SALES), random.integers(0, 120, _SALES)
    from_centre = np.hypot(east - 0.5, north - 0.5)
    paid = 90_000 * rooms * np.exp(-from_centre) - 500 * age + random.normal(0, 20_000, _SALES)
    model = ExtraTreesRegressor(n_estimators=8, random_state=1)
    model.fit(np.column_stack([east, north, rooms, age]), paid)
    joblib.dump(model, MODEL_FILE)


if __name__ == "__main__":
    train()
    print(f"{MODEL_FILE}: {MODEL_FILE.stat().st_size / 2**20:.0f} MiB")
