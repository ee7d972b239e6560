"""Two ResNets as an ensemble, over real photographs.

torchvision's resnet18 and resnet34 look at the same pictures (crops and mirror images of the two
photographs that scikit-learn bundles), and the mean of their answers is the answer. Pretrained weights
are used where they already lie in torch's hub cache; nothing is ever downloaded. Without them the
weights are random, and so are the answers: the throughput is real all the same.

Run it from the root of the repository::

    python examples/vision.py
    python examples/vision.py --quick          # fewer pictures, one repeat
    python examples/vision.py --device cuda    # the models, and their batches, on the GPU
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import models

import dataflow as df
import dataflow.torch

Photo = np.ndarray  # height x width x 3, uint8
Scores = np.ndarray  # a probability for each of the 1 000 classes of ImageNet

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


class Answer(NamedTuple):
    """The likeliest classes of a picture, best first, and the probability of the first."""

    top5: tuple[int, ...]
    probability: float


# ---------------------------------------------------------------- The flow.
@df.stage
def preprocess(photo: Photo) -> np.ndarray:
    """ImageNet's own: the short side to 256, the middle 224x224, normalized, channels first."""
    image = Image.fromarray(photo)
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def mean(a: Scores, b: Scores) -> Scores:
    return (a + b) / 2


@df.stage
def answer(scores: Scores) -> Answer:
    best = np.argsort(scores)[::-1][:5]
    return Answer(tuple(int(index) for index in best), float(scores[best[0]]))


def build_ensemble(a: df.Flow, b: df.Flow) -> df.Flow:
    return preprocess >> (a | b) >> df.combine(mean) >> answer


# ---------------------------------------------------------------- The models and the pictures.
def resnet(arch: str) -> tuple[torch.nn.Module, list[str] | None]:
    """A torchvision model that answers with probabilities; its labels where its weights mean something."""
    weights = models.get_model_weights(arch).DEFAULT
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    net, labels = models.get_model(arch, weights=None), None
    if cached.is_file():
        net.load_state_dict(torch.load(cached, map_location="cpu", weights_only=True))
        labels = list(weights.meta["categories"])
        print(f"{arch}: pretrained weights from {cached}")
    else:
        print(f"{arch}: RANDOM weights, because {cached} is not there; its answers mean nothing")
    return torch.nn.Sequential(net, torch.nn.Softmax(dim=-1)).eval(), labels


def photographs(count: int, seed: int) -> list[tuple[str, Photo]]:
    """The two photographs, then crops of them, half of those mirrored; each with its name."""
    bundled = load_sample_images()
    originals = [(Path(name).name, photo) for name, photo in zip(bundled.filenames, bundled.images, strict=True)]
    rng = np.random.default_rng(seed)
    pictures = list(originals)
    while len(pictures) < count:
        name, photo = originals[len(pictures) % len(originals)]
        side = int(rng.integers(260, 400))
        top, left = (int(rng.integers(0, size - side)) for size in photo.shape[:2])
        crop, mirrored = photo[top : top + side, left : left + side], len(pictures) % 4 > 1
        name = f"{name}, {side}x{side} at ({left}, {top}){', mirrored' * mirrored}"
        pictures.append((name, np.ascontiguousarray(crop[:, ::-1] if mirrored else crop)))
    return pictures[:count]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="resnet18 and resnet34 as an ensemble over photographs.")
    parser.add_argument("--quick", action="store_true", help="fewer pictures, one repeat")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and the crops")
    parser.add_argument("--device", default="cpu", help="where the models run: cpu, cuda, cuda:1 ...")
    args = parser.parse_args(argv)
    count, repeats = (6, 1) if args.quick else (16, 3)

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # so that the ratio is the flow's doing, not torch's thread pool
    nets = {arch: resnet(arch) for arch in ("resnet18", "resnet34")}
    ensemble, unbatched = (
        build_ensemble(
            *(dataflow.torch.module(net, batch=batch, device=args.device, name=arch) for arch, (net, _) in nets.items())
        )
        for batch in (16, 1)
    )
    known = [labels for _, labels in nets.values()]
    print(f"\n{ensemble.explain()}\n")

    names, photos = map(list, zip(*photographs(count, args.seed), strict=True))
    for name, (top5, probability) in zip(names, ensemble.map(photos), strict=True):
        # Both models must know what they say for the labels to be worth printing.
        words = [known[0][index] if all(known) and known[0] else f"class {index}" for index in top5]
        print(f"{name}: {words[0]} ({probability:.1%}); then {', '.join(words[1:])}")

    # The optimized plan over the whole stream, against the same models in batches of one, without any optimizer
    # pass. Both on the thread executor, planned before the clock starts; the repeats alternate, and the ratio is
    # the median of theirs.
    with ensemble.open() as optimized, unbatched.open(df.Threads(passes=())) as plain:
        streamed, one_by_one = [], []
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            list(optimized.map(photos))
            middle = time.perf_counter()
            list(plain.map(photos))
            if repeat:  # the first only warms up
                streamed.append(middle - start)
                one_by_one.append(time.perf_counter() - middle)
    ratio = statistics.median(slow / fast for slow, fast in zip(one_by_one, streamed, strict=True))
    print(f"\noptimized, streamed   {count / statistics.median(streamed):>8.1f} pictures/s")
    print(f"item by item          {count / statistics.median(one_by_one):>8.1f} pictures/s   optimized is {ratio:.2f}x")


if __name__ == "__main__":
    main()
