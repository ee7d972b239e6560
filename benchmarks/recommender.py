"""A recommender: a user's vector by a matrix of 2500 x 512, and the five best."""

from __future__ import annotations

from typing import Any

import numpy as np

import dataflow as df
from benchmarks import beside, effort, kept
from benchmarks.mlp import SEED
from benchmarks.nets import chunks
from dataflow.bench import Findings

USERS, FEATURES, GOODS, BATCH = 2_000, 512, 2_500, 64
MATRIX = np.random.default_rng(SEED).normal(size=(GOODS, FEATURES)).astype(np.float32)


def unit(user: Any) -> Any:
    """Scale a vector to length one."""
    return user / np.sqrt(user @ user)


def scores(users: list[Any]) -> Any:
    """Rate all goods for a batch of users."""
    return np.array(users) @ MATRIX.T


def five(row: Any) -> list[int]:
    """Name the five best, best first."""
    best = np.argpartition(row, -5)[-5:]
    return [int(index) for index in best[np.argsort(row[best])[::-1]]]


def by_hand(users: list[Any]) -> list[list[int]]:
    """Write the batched loop out."""
    return [five(row) for chunk in chunks(users, BATCH) for row in scores([unit(user) for user in chunk])]


def findings(quick: bool = False) -> Findings:
    """Measure."""
    flow = unit >> df.stage(scores, batch=BATCH) >> five
    count = USERS // 4 if quick else USERS
    users = list(np.random.default_rng(1).normal(size=(count, FEATURES)).astype(np.float32))
    return kept(beside(f"recommender: {count:,} users", flow, users, by_hand, effort=effort(quick, 15, 20)))
