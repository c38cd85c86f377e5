"""A price service whose memory stays flat. ``leaking.py`` is the same service without memcell.

One model serves all requests and threads; the cache of answers can be cleared; a monitor clears it when memory runs
short; and ``/health`` tells how the process is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import joblib
import numpy as np
from prices import MODEL_FILE, price_map
from sklearn.ensemble import ExtraTreesRegressor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import memcell

logging.basicConfig(level=logging.INFO)  # memcell logs each clean-up, and what it freed


@memcell.shared
def load_model() -> ExtraTreesRegressor:
    """The one model of this process."""
    return joblib.load(MODEL_FILE)


@cache
def town_prices(rooms: int, age: int) -> np.ndarray:
    """What such a flat costs, by place."""
    return price_map(load_model(), rooms, age)


memcell.register("town-prices", town_prices)


def appraise(request: Request) -> JSONResponse:
    """Answer ``/prices?rooms=3&age=20``."""
    prices = town_prices(int(request.query_params["rooms"]), int(request.query_params["age"]))
    return JSONResponse({"cheapest": round(prices.min()), "dearest": round(prices.max())})


def health(_: Request) -> JSONResponse:
    """Answer ``/health``."""
    return JSONResponse(memcell.status().to_dict())


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Watch the memory from the first request to the last, in each worker."""
    with memcell.Monitor(interval_s=1):
        yield


app = Starlette(routes=[Route("/prices", appraise), Route("/health", health)], lifespan=lifespan)
