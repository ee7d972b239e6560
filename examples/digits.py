"""Three models that read handwritten digits: as an ensemble, and as a cascade.

Trains three small torch models of very different cost on scikit-learn's bundled digits (1 797 real
8x8 scans), joins them into two flows with operators, and measures both on images held out of training.

Run it from the root of the repository::

    python examples/digits.py            # under a minute on two cores
    python examples/digits.py --quick    # a few seconds: less training, fewer repeats
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import dataflow as df
import dataflow.torch

Image = np.ndarray  # 8x8 grey levels from 0 to 16, as scanned
Scores = np.ndarray  # ten probabilities, one per digit


# ---------------------------------------------------------------- The stages: plain functions of one item.
@df.stage
def preprocess(image: Image) -> Image:
    return (image / 16.0).astype(np.float32)[np.newaxis]  # one channel, levels from 0 to 1


@df.stage
def label(scores: Scores) -> int:
    return int(scores.argmax())


@df.stage
def first_opinion(seen: tuple[Image, Scores]) -> Scores:
    return seen[1]


@df.stage
def image_again(seen: tuple[Image, Scores]) -> Image:
    return seen[0]


def confident(seen: tuple[Image, Scores]) -> bool:
    return bool(seen[1].max() >= 0.8)


def vote(*opinions: Scores) -> int:
    return int(np.mean(opinions, axis=0).argmax())


# ---------------------------------------------------------------- The flows: stages joined by operators.
def build_ensemble(a: df.Flow, b: df.Flow, c: df.Flow) -> df.Flow:
    """All three models see every image, and their mean decides."""
    return preprocess >> (a | b | c) >> df.combine(vote)


def build_cascade(cheap: df.Flow, expensive: df.Flow) -> df.Flow:
    """The cheap model sees every image; the expensive one only those the cheap one is unsure of."""
    return (
        preprocess
        >> (df.identity | cheap)
        >> df.switch(confident, {True: first_opinion >> label, False: image_again >> expensive >> label})
    )


# ---------------------------------------------------------------- The models: ordinary torch, trained here.
def networks() -> dict[str, nn.Module]:
    return {
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)),
        "cnn": nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(), nn.Linear(128, 10)),
        ),
    }


def train(net: nn.Module, images: Sequence[Image], digits: np.ndarray, epochs: int) -> nn.Module:
    """Fit `net`, and return it with a softmax on top, ready to answer with probabilities."""
    x = torch.from_numpy(np.stack([preprocess(image) for image in images]))  # a stage is a function too
    y = torch.from_numpy(digits)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return nn.Sequential(net, nn.Softmax(dim=-1)).eval()


# ---------------------------------------------------------------- What they are worth.
def accuracy(flow: df.Flow, images: Sequence[Image], digits: np.ndarray) -> float:
    return float(np.mean(np.array(list(flow.map(images))) == digits))


def compare(flow: df.Flow, unbatched: df.Flow, images: Sequence[Image], repeats: int) -> None:
    """Time one flow run three ways on the thread executor: the same stages, models and answers, differently run.

    Planning is not timed: opening a session does it. A repeat runs all three, so that a slow moment of the
    machine hits each of them; what is printed are the medians of the repeats' rates and of their ratios.
    """
    no_pass = df.Threads(passes=())
    with flow.open() as optimized, flow.open(no_pass) as plain, unbatched.open(no_pass) as single:
        ways: dict[str, Callable[[], list[Any]]] = {
            # The optimized plan over the whole stream: CPU stages fused, models fed in shared batches.
            "optimized": lambda: list(optimized.map(images)),
            # No optimizer pass: every stage is a step of its own. Models still get batches of up to 64.
            "stage by stage": lambda: list(plain.map(images)),
            # No pass, and every model is called on batches of one.
            "item by item": lambda: list(single.map(images)),
        }
        answers = [run() for run in ways.values()]  # warms everything up, and shows that the ways agree
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - start)
    for way, taken in seconds.items():
        ratio = statistics.median(t / best for t, best in zip(taken, seconds["optimized"], strict=True))
        rate = len(images) / statistics.median(taken)
        print(f"  {way:<15}{rate:>9,.0f} images/s" + f"   optimized is {ratio:.2f}x" * (way != "optimized"))
    same = sum(len(set(labels)) == 1 for labels in zip(*answers, strict=True))
    print(f"  the same label all three ways: {same} of {len(images)}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="An ensemble and a cascade on handwritten digits.")
    parser.add_argument("--quick", action="store_true", help="less training and fewer repeats")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the shuffling")
    args = parser.parse_args(argv)
    epochs, repeats = (10, 1) if args.quick else (40, 7)

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # so that the ratios are the flow's doing, not torch's thread pool
    digits = load_digits()
    known, images, known_truth, truth = train_test_split(
        list(digits.images), digits.target, test_size=0.5, stratify=digits.target, random_state=args.seed
    )
    trained = {name: train(net, known, known_truth, epochs) for name, net in networks().items()}

    def build(batch: int) -> dict[str, df.Flow]:
        """All flows, with models that take batches of up to so many."""
        a, b, c = (dataflow.torch.module(net, batch=batch, name=name) for name, net in trained.items())
        alone = {f"{name} alone": preprocess >> model >> label for name, model in zip(trained, (a, b, c), strict=True)}
        return {**alone, "ensemble": build_ensemble(a, b, c), "cascade": build_cascade(a, c)}

    flows, unbatched = build(64), build(1)
    for name in ("ensemble", "cascade"):
        print(f"The {name}:\n\n{flows[name].explain()}\n")
    print(f"Accuracy on {len(images)} images held out of training:")
    for name, flow in flows.items():
        print(f"  {name:<15}{accuracy(flow, images, truth):>9.1%}")
    with flows["cascade"].open() as session:
        list(session.map(images))
        asked = session.stats()["steps"]["cnn"]["items"]
    print(f"The cascade asked its expensive model about {asked / len(images):.1%} of them.")
    for name in ("cnn alone", "ensemble", "cascade"):
        print(f"\nThroughput of the {name}:")
        compare(flows[name], unbatched[name], images, repeats)


if __name__ == "__main__":
    main()
