"""Frames through a detector, and each box through the model of persons or that of cars: `each` and `switch`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import beside, effort, kept
from benchmarks.mlp import one_thread
from benchmarks.nets import close, convolutional, in_batches, pictures
from dataflow.bench import Findings

FRAMES, SIZE, CROP, BATCH = 120, 96, 32, 32
Box = tuple[str, Any]


def boxes(frame_and_scores: tuple[Any, Any]) -> list[Box]:
    """Cut out up to six boxes, where and what the detector's scores say."""
    frame, scores = frame_and_scores
    found = []
    for number in range(int(abs(scores[0]) * 1e4) % 7):
        mixed = int(abs(scores[number % len(scores)]) * 1e5) + 31 * number
        top, left = mixed % (SIZE - CROP), mixed // 7 % (SIZE - CROP)
        found.append(("person" if mixed % 3 else "car", frame[:, top : top + CROP, left : left + CROP]))
    return found


def kind(box: Box) -> str:
    return box[0]


def crop(box: Box) -> Any:
    return box[1]


def small(frame: Any) -> Any:
    """Make a frame a third as large, for the detector."""
    return np.ascontiguousarray(frame[:, ::3, ::3])


def best(scores: Any) -> int:
    return int(scores.argmax())


def findings(quick: bool = False) -> Findings:
    """Measure."""
    import dataflow as df
    import dataflow.torch as dft

    with one_thread():
        detector, person, car = convolutional(16, 8), convolutional(32, 10), convolutional(24, 10)
        look = small >> dft.module(detector, batch=BATCH, name="detector")
        persons = crop >> dft.module(person, batch=BATCH, name="person") >> best
        cars = crop >> dft.module(car, batch=BATCH, name="car") >> best
        flow = (df.identity | look) >> df.stage(boxes) >> df.each(df.switch(kind, {"person": persons, "car": cars}))
        frames = pictures(FRAMES // 4 if quick else FRAMES, SIZE)

        def by_hand(frames: list[Any]) -> list[list[int]]:
            scores = in_batches(detector, [small(frame) for frame in frames], BATCH)
            found = [boxes(pair) for pair in zip(frames, scores, strict=True)]
            answers = [[0] * len(few) for few in found]
            for wanted, net in (("person", person), ("car", car)):
                places = [
                    (row, column) for row, few in enumerate(found) for column, box in enumerate(few) if box[0] == wanted
                ]
                crops = [found[row][column][1] for row, column in places]
                for (row, column), made in zip(places, in_batches(net, crops, BATCH), strict=True):
                    answers[row][column] = int(made.argmax())
            return answers

        table = beside(f"video: {len(frames)} frames", flow, frames, by_hand, effort=effort(quick, 15, 20), same=close)
        return kept(table)
