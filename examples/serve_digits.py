"""The ensemble of `digits.py` on Ray Serve: deployed, asked, and robbed of a replica while it is asked.

Trains the three models, deploys the flow on a Ray that is started on this machine, asks it for one image, for five over
HTTP, for all of them as a batch job, and kills a replica in the middle of another job: each image still gets its digit.

Run it from the root of the repository::

    python examples/serve_digits.py            # under a minute on two cores
    python examples/serve_digits.py --quick    # less training
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import httpx
import numpy as np
import ray
import torch
from digits import Image, build_ensemble, networks, train
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import dataflow as df
import dataflow.torch

APPLICATION = "digits"


def trained_ensemble(images: Sequence[Image], digits: np.ndarray, epochs: int) -> df.Flow:
    """Train the models, and join them into the flow; the two larger ones get a process of their own."""
    places = {"linear": None, "mlp": "models", "cnn": "models"}
    models = [
        dataflow.torch.module(train(net, images, digits, epochs), batch=64, name=name, placement=places[name])
        for name, net in networks().items()
    ]
    return build_ensemble(*models)


def kill_a_replica(deployment: str) -> None:
    """Kill a replica's process, as if its machine had failed."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    name = next(each["name"] for each in actors if f"{APPLICATION}#{deployment}#" in each["name"])
    ray.kill(ray.get_actor(name, namespace="serve"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="An ensemble on handwritten digits, on Ray Serve.")
    parser.add_argument("--quick", action="store_true", help="less training")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the shuffling")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    digits = load_digits()
    known, images, known_truth, truth = train_test_split(
        list(digits.images), digits.target, test_size=0.5, stratify=digits.target, random_state=args.seed
    )
    ensemble = trained_ensemble(known, known_truth, 5 if args.quick else 40)
    here = list(ensemble.map(images))

    server = df.RayServe(name=APPLICATION, route_prefix=f"/{APPLICATION}")
    print(ensemble.explain(server), end="\n\n")
    start = time.perf_counter()
    with ensemble.open(server) as session:
        print(f"Deployed in {time.perf_counter() - start:.1f} s.")
        print(f"One image: {session.run(images[0])}, and it is a {truth[0]}.")
        with httpx.Client(base_url=session.url, timeout=60) as client:
            few = np.stack(images[:5])
            tensor = {"name": "images", "datatype": "FP64", "shape": list(few.shape), "data": few.tolist()}
            answer = client.post(f"/v2/models/{APPLICATION}/infer", json={"inputs": [tensor]}).raise_for_status()
            print(f"Five over HTTP: {answer.json()['outputs'][0]['data']}, and they are {truth[:5].tolist()}.")
        start = time.perf_counter()
        there = list(session.map(images, progress=False))
        print(
            f"All {len(images)} in {time.perf_counter() - start:.2f} s, {np.mean(np.array(there) == truth):.1%} right."
        )
        print(f"The same as on threads here: {there == here}.")

        def robbed() -> Iterator[Image]:
            for number, image in enumerate(images):
                if number == len(images) // 2:
                    kill_a_replica("models")
                yield image

        again = list(session.map(robbed(), progress=False))
        print(f"With a replica killed halfway: {len(again)} answers, the same: {again == here}.")


if __name__ == "__main__":
    main()
