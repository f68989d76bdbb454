"""Mohs: similarity learning for many classes with one or two pictures each.

Everything public is here and is loaded when it is first used: `import mohs` costs milliseconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mohs.classify.classifier import Classifier as Classifier
    from mohs.data.dataset import Dataset as Dataset
    from mohs.data.dataset import open_dataset as open_dataset
    from mohs.data.images import ImagePolicy as ImagePolicy
    from mohs.data.reading import read_table as read_table
    from mohs.doctor.diagnose import diagnose as diagnose
    from mohs.doctor.findings import Diagnosis as Diagnosis
    from mohs.doctor.findings import Finding as Finding
    from mohs.errors import MohsError as MohsError
    from mohs.hardness import curves as curves
    from mohs.index.index import Index as Index
    from mohs.mining.mine import mine as mine
    from mohs.mining.positives import choose_positives as choose_positives
    from mohs.model.embedder import Embedder as Embedder
    from mohs.plan import TripletPlan as TripletPlan
    from mohs.runs import Run as Run
    from mohs.runs import evaluate as evaluate
    from mohs.runs import train as train
    from mohs.sequence import anchor_sequence as anchor_sequence
    from mohs.settings.config import DataConfig as DataConfig
    from mohs.settings.config import HardnessConfig as HardnessConfig
    from mohs.settings.config import LossConfig as LossConfig
    from mohs.settings.config import ModelConfig as ModelConfig
    from mohs.settings.config import RunConfig as RunConfig
    from mohs.settings.config import TrainingConfig as TrainingConfig
    from mohs.settings.config import load_config as load_config
    from mohs.shards import open_shards as open_shards
    from mohs.training.other_loops import NeighbourhoodSampler as NeighbourhoodSampler
    from mohs.training.other_loops import PlanMiner as PlanMiner
    from mohs.training.other_loops import PlanSampler as PlanSampler
    from mohs.triplet_lists import create_data as create_data

__version__ = "0.1.0"

_HOME = {
    "Classifier": "mohs.classify.classifier",
    "DataConfig": "mohs.settings.config",
    "Dataset": "mohs.data.dataset",
    "Diagnosis": "mohs.doctor.findings",
    "Embedder": "mohs.model.embedder",
    "Finding": "mohs.doctor.findings",
    "HardnessConfig": "mohs.settings.config",
    "ImagePolicy": "mohs.data.images",
    "Index": "mohs.index.index",
    "LossConfig": "mohs.settings.config",
    "ModelConfig": "mohs.settings.config",
    "MohsError": "mohs.errors",
    "NeighbourhoodSampler": "mohs.training.other_loops",
    "PlanMiner": "mohs.training.other_loops",
    "PlanSampler": "mohs.training.other_loops",
    "Run": "mohs.runs",
    "RunConfig": "mohs.settings.config",
    "TrainingConfig": "mohs.settings.config",
    "TripletPlan": "mohs.plan",
    "anchor_sequence": "mohs.sequence",
    "choose_positives": "mohs.mining.positives",
    "create_data": "mohs.triplet_lists",
    "diagnose": "mohs.doctor.diagnose",
    "evaluate": "mohs.runs",
    "load_config": "mohs.settings.config",
    "mine": "mohs.mining.mine",
    "open_dataset": "mohs.data.dataset",
    "open_shards": "mohs.shards",
    "read_table": "mohs.data.reading",
    "train": "mohs.runs",
}

__all__ = ["curves", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "curves":
        return importlib.import_module("mohs.hardness.curves")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mohs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])
