"""A price service that grows with every request. ``app.py`` is the same service, flat.

Each request loads the model into an object of its own. The cache on the method was meant to save work: its key contains
``self``, so it never hits, and it keeps every one of these objects, each with its model, for good.
"""

from __future__ import annotations

from functools import cache

import joblib
import numpy as np
from prices import MODEL_FILE, price_map
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Appraiser:
    """Answers one request."""

    def __init__(self) -> None:
        self.model = joblib.load(MODEL_FILE)

    @cache  # noqa: B019 - the leak
    def prices(self, rooms: int, age: int) -> np.ndarray:
        """What such a flat costs, by place."""
        return price_map(self.model, rooms, age)


def appraise(request: Request) -> JSONResponse:
    """Answer ``/prices?rooms=3&age=20``."""
    prices = Appraiser().prices(int(request.query_params["rooms"]), int(request.query_params["age"]))
    return JSONResponse({"cheapest": round(prices.min()), "dearest": round(prices.max())})


app = Starlette(routes=[Route("/prices", appraise)])
