"""An embedder as a model repository of the Hugging Face hub: weights, settings and a card."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, ModelCardData

from mohs.artefacts import atomic_folder, write_text
from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder
from mohs.model.hub import HUB_PREFIX, hub_errors
from mohs.sums import read_summed

if TYPE_CHECKING:
    from mohs.runs import Run  # what a run needs takes seconds to import, and a saved embedder has none

__all__ = ["push_to_hub", "write_hub_folder"]

_METRICS = ("recall@1", "recall@5", "recall@10", "mAP")


def write_hub_folder(
    embedder: Embedder, folder: str | Path, *, name: str, run: "Run | None" = None, licence: str | None = None
) -> None:
    """Write `model.safetensors`, `embedder.json` and a model card into a new folder, which is whole or absent.

    Args:
        embedder: any.
        folder: must not exist.
        name: of the repository, user/name, as the card's example has it.
        run: what the embedder was trained in: the card tells of how many pictures, and what was measured.
        licence: of the weights, as the hub names it, such as "apache-2.0"; None: the card names none.

    Raises `InputError` for a folder that exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(Problem("folder", f"{folder} exists already", "give another, or remove it"))
    with atomic_folder(folder) as place:
        embedder.save_pretrained(place)
        write_text(place / "README.md", model_card(embedder, name=name, run=run, licence=licence))


def push_to_hub(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Upload a folder of `write_hub_folder` to the repository user/name, which is made if need be; return its address.

    By the hub's own variables: HF_TOKEN says who you are, HF_ENDPOINT where the hub is. Files that are not of the
    folder stay as they are there. Raises `InputError`, one line, for what the hub refuses.
    """
    with hub_errors(repo, "hub"):
        api = HfApi(library_name="mohs")
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="An embedder made by Mohs")
    return str(made)


def model_card(embedder: Embedder, *, name: str, run: "Run | None", licence: str | None) -> str:
    """Return README.md: what the hub reads of it as YAML, what the model is, how it is used, what was measured."""
    data = ModelCardData(
        library_name="mohs",
        pipeline_tag="image-feature-extraction",
        license=licence,
        tags=["similarity-learning", "metric-learning", "image-retrieval"],
    )
    policy = embedder.policy
    kind = "colour" if policy.channels == 3 else "grey"
    parts = [
        f"---\n{data.to_yaml().strip()}\n---",
        f"# {name.rpartition('/')[2]}",
        f"An image embedder made by Mohs: pictures become unit vectors of {embedder.embedding_dim} dimensions, and "
        "pictures of the same thing lie close together.",
        f"Backbone: `{embedder.config.backbone}`. Input: {kind}, {policy.size} × {policy.size} pixels ({policy.fit}).",
        f'```python\nimport mohs\n\nembedder = mohs.Embedder.from_pretrained("{HUB_PREFIX}{name}")\n'
        'vectors = embedder.embed(["photo.jpg"])  # float32, unit length\n```',
        *([] if run is None else _of_run(run)),
    ]
    return "\n\n".join(parts) + "\n"


def _of_run(run: "Run") -> list[str]:
    facts = run.facts()
    trained = (
        f"Trained on {facts['num_training_items']:,} pictures of {facts['num_training_classes']:,} classes, loss "
        f"`{run.config.loss.name}`, seed {run.config.seed}, by mohs {facts['versions']['mohs']}."
    )
    metrics = run.folder / "metrics.json"
    if not metrics.is_file():
        return ["## Training", trained, "Nothing was measured."]
    try:
        return ["## Training", trained, "## Measured", *_measured(read_summed(metrics)["trained"])]
    except (KeyError, TypeError, AttributeError):
        what = "not what 'mohs evaluate' writes there"
        raise InputError(Problem(str(metrics), what, f"measure the run again: mohs evaluate {run.folder}")) from None


def _measured(found: Mapping[str, Any]) -> list[str]:
    retrieval = found["retrieval"]
    rows = ["| | value | 95% interval | by chance |", "|---|---|---|---|"]
    for metric in _METRICS:
        if metric in retrieval:
            interval = retrieval["intervals"].get(metric)
            told = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
            rows.append(f"| {metric} | {retrieval[metric]:.3f} | {told} | {retrieval['chance'][metric]:.3f} |")
    counted = f"{retrieval['num_counted_queries']:,} queries among {retrieval['num_gallery']:,} pictures"
    return [f"On test pictures, {found['protocol']}: {counted}.", "\n".join(rows)]
