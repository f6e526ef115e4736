"""From a folder of pictures to one new picture classified, saved, loaded and served.

    python -m examples.your_images omniglot images_background.zip PICTURES     (or a folder of your own)
    python -m examples.your_images train PICTURES learner.safetensors
    python -m examples.your_images adapt learner.safetensors EXAMPLES model.safetensors
    python -m examples.your_images classify model.safetensors new.png
    python -m examples.your_images serve model.safetensors

PICTURES/train/CLASS/*.png, with val and test beside train, teach what makes a class; EXAMPLES/CLASS/*.png are the few
pictures of the classes to be told apart, which may be new ones.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastmeta as fm

SIDE, WAYS, SHOTS = 28, 5, 3


def train(pictures: Path, iterations: int, seed: int = 0) -> tuple[fm.ProtoNet, fm.Score]:
    """A ProtoNet of the training classes, and its accuracy on classes that it has not seen."""
    images = fm.tasks.Images(pictures, ways=WAYS, shots=SHOTS, queries=5, image_size=SIDE)
    learner = fm.ProtoNet(fm.Conv4((SIDE, SIDE, 3), channels=32, outputs=None))
    learner.fit(images.train, iterations, tasks_per_step=2, seed=seed)
    return learner, learner.evaluate(images.test, 200, batch_norm="frozen")


def classifier(learner: fm.ProtoNet, examples: Path) -> Any:
    """A model of the classes in a folder, which takes one picture at a time as well as many."""
    return learner.adapt(*fm.tasks.list_images(examples), batch_norm="frozen")


def classify(model: Any, picture: Any) -> dict[str, Any]:
    """The class of a picture, its probability, and how far it is from all classes."""
    shares, distance = model.probabilities(picture), model.distance(picture)
    return {"class": model.predict(picture), "probability": float(shares.max()), "distance": float(distance)}


def server(model: Any, port: int = 8000) -> HTTPServer:
    """An HTTP server on this machine: POST a picture, get its class as JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answer with the class of the picture that was sent."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, answer = 200, classify(model, Image.open(io.BytesIO(body)))
            except (ValueError, OSError) as error:
                status, answer = 400, {"error": str(error)}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *arguments: Any) -> None:
            """Nothing is written for a request."""

    return HTTPServer(("127.0.0.1", port), Handler)


def omniglot(archive: Path, pictures: Path, sizes: dict[str, int], per_class: int = 20) -> None:
    """Some characters of Omniglot as a folder of PNG files, which stands here for yours."""
    with zipfile.ZipFile(archive) as file:
        drawings: dict[str, list[str]] = {}
        for name in sorted(name for name in file.namelist() if name.endswith(".png")):
            drawings.setdefault("-".join(Path(name).parts[-3:-1]), []).append(name)
        order = np.random.default_rng(0).permutation(sorted(drawings)).tolist()
        for part, count in sizes.items():
            for kind in (order.pop() for _ in range(count)):
                (pictures / part / kind).mkdir(parents=True, exist_ok=True)
                for i, name in enumerate(drawings[kind][:per_class]):
                    (pictures / part / kind / f"{i:02}.png").write_bytes(file.read(name))


def main() -> None:
    """One of the five commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in {
        "omniglot": ("archive", "pictures"),
        "train": ("pictures", "learner"),
        "adapt": ("learner", "examples", "model"),
        "classify": ("model", "new"),
        "serve": ("model",),
    }.items():
        command = commands.add_parser(name)
        for word in words:
            command.add_argument(word, type=Path)
    commands.choices["train"].add_argument("--iterations", type=int, default=200)
    commands.choices["train"].add_argument("--seed", type=int, default=0)
    commands.choices["serve"].add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if options.command == "omniglot":
        omniglot(options.archive, options.pictures, {"train": 200, "val": 20, "test": 60})
    elif options.command == "train":
        learner, score = train(options.pictures, options.iterations, options.seed)
        learner.save(options.learner)
        print(f"{WAYS} unseen classes, {SHOTS} pictures of each: {score}")
    elif options.command == "adapt":
        classifier(fm.load(options.learner), options.examples).save(options.model)
    elif options.command == "classify":
        print(json.dumps(classify(fm.load(options.model), options.new)))
    else:
        print(f"POST a picture to http://127.0.0.1:{options.port}/", flush=True)
        server(fm.load(options.model), options.port).serve_forever()


if __name__ == "__main__":
    main()
