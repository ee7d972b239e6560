"""Posts of two modalities: the text's language is told and translated if foreign, beside a model of the picture."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from benchmarks import beside, effort, kept
from benchmarks.mlp import one_thread
from benchmarks.nets import close, convolutional, dense, in_batches, pictures
from dataflow.bench import Findings

POSTS, WORDS, BATCH = 600, 64, 32
FOREIGN = 0.3


class Post(NamedTuple):
    """A text, and a picture of 3 x 32 x 32."""

    text: str
    picture: Any


def text(post: Post) -> str:
    return post.text


def picture(post: Post) -> Any:
    return post.picture


def foreign(text: str) -> bool:
    """Tell the language: a seeded hash, for a share of `FOREIGN`."""
    return hashlib.blake2b(text.encode(), digest_size=2).digest()[0] < 256 * FOREIGN


def words(text: str) -> Any:
    """Count words into as many buckets as the models take."""
    counts = np.zeros(WORDS, dtype=np.float32)
    for word in text.split():
        counts[hash_of(word) % WORDS] += 1
    return counts


def hash_of(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")


def verdict(of_text: Any, of_picture: Any) -> float:
    return float(of_text.max() + of_picture.max())


def findings(quick: bool = False) -> Findings:
    """Measure."""
    import dataflow as df
    import dataflow.torch as dft

    with one_thread():
        translator, reader, viewer = dense(WORDS, 512, 512, WORDS), dense(WORDS, 128, 8), convolutional(16, 8)
        translate = words >> dft.module(translator, batch=BATCH, name="translator")
        read = dft.module(reader, batch=BATCH, name="reader")
        of_text = text >> df.switch(foreign, {True: translate >> read, False: words >> read})
        flow = (of_text | picture >> dft.module(viewer, batch=BATCH, name="viewer")) >> df.combine(verdict)
        count = POSTS // 4 if quick else POSTS
        draw = np.random.default_rng(1)
        texts = [" ".join(f"w{number}" for number in draw.integers(0, 5000, 12)) for _ in range(count)]
        posts = [Post(*pair) for pair in zip(texts, pictures(count), strict=True)]

        def by_hand(posts: list[Post]) -> list[float]:
            rows = [words(post.text) for post in posts]
            abroad = [place for place, post in enumerate(posts) if foreign(post.text)]
            for place, made in zip(abroad, in_batches(translator, [rows[p] for p in abroad], BATCH), strict=True):
                rows[place] = made
            read_ = in_batches(reader, rows, BATCH)
            seen = in_batches(viewer, [post.picture for post in posts], BATCH)
            return [verdict(*pair) for pair in zip(read_, seen, strict=True)]

        table = beside(f"social media: {count} posts", flow, posts, by_hand, effort=effort(quick, 15, 20), same=close)
        return kept(table)
