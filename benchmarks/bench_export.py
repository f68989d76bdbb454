"""Whether ONNX and torch.export give the vectors of the network, on real pictures (--help says how).

Three networks: the small one (random weights, as it is trained from nothing), tf_efficientnet_lite0 (pretrained, if its
weights are given) and a small ViT (random weights). Batches of 1 and of 33 are compared picture by picture.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from mohs.data.images import ImagePolicy, decode_images
from mohs.data.reading import read_table
from mohs.export.network import export_onnx, export_torch
from mohs.model.embedder import Embedder
from mohs.randomness import generator
from mohs.settings.config import ModelConfig

BATCHES = (1, 33)


def main() -> None:
    """Print a table, a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="table or folder of photographs")
    parser.add_argument("--weights", help="safetensors file for tf_efficientnet_lite0")
    parser.add_argument("--pictures", type=int, default=100)
    given = parser.parse_args()
    table = read_table(given.data)
    rows = np.sort(generator(0, "pictures of a benchmark").permutation(len(table))[: given.pictures])
    paths = [table.path(i) for i in rows.tolist()]
    cells = (("small", 64, None), ("tf_efficientnet_lite0", 224, given.weights), ("vit_tiny_patch16_224", 224, None))
    print("| network | pictures | ONNX, largest difference, batch 1 / 33 | torch.export | export, s |")
    print("|---|---|---|---|---|")
    for backbone, size, weights in cells:
        policy = ImagePolicy(size=size)
        pictures = np.stack([found for found in decode_images(paths, policy) if not isinstance(found, str)])
        config = ModelConfig(backbone=backbone, weights=weights, hidden_dim=0 if weights else 256)
        embedder = Embedder.create(config, policy).eval()
        if backbone == "small":
            _settle(embedder, pictures)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            made = export_onnx(embedder, Path(folder) / "network.onnx", pictures)
            seconds = time.perf_counter() - began
            differences = [_difference(embedder, made.path, pictures, batch) for batch in BATCHES]
            program = export_torch(embedder, Path(folder) / "network.pt2", pictures)
        told = " / ".join(f"{difference:.1e}" for difference in differences)
        print(f"| {backbone} | {len(pictures)} | {told} | {program.largest_difference:.1e} | {seconds:.1f} |")


def _settle(embedder: Embedder, pictures: np.ndarray) -> None:
    """Let batch norm see pictures: statistics that it begins with would hide a mistake."""
    with torch.no_grad():
        embedder.train()(embedder.to_input(pictures))
    embedder.eval()


def _difference(embedder: Embedder, path: Path, pictures: np.ndarray, batch: int) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    blocks = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
    found = np.concatenate([session.run(None, {"pictures": block})[0] for block in blocks])
    return float(np.abs(found - embedder.embed(pictures)).max())


if __name__ == "__main__":
    main()
