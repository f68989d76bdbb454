"""Presets: settings that belong together, as a start; a file's and the user's own settings change them.

A preset says how to train, not on what nor which backbone: the weights, the size of pictures and the mean and spread
that a backbone was trained with are settings of their own. `mohs train` with weights and no preset takes "fine-tune":
with mobilenetv2_100 on emoji, recall@1 on unseen classes was 0.009 with the defaults, which are for a new network,
0.226 with the backbone frozen and 0.366 with "fine-tune".
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from mohs.errors import InputError

__all__ = ["Budget", "Preset", "budget_settings", "preset_settings"]

Preset: TypeAlias = Literal["small", "fine-tune", "fine-tune-sgd", "photos", "frozen"]

_FINE_TUNE: Mapping[str, Any] = {
    "training.optimizer": "adamw",
    # The head is new and a few layers deep; 1e-3 is AdamW's own default and the usual start for a new head.
    "training.learning_rate": 1e-3,
    # 1e-4 for the backbone: a tenth, so that a head still random does not wash out what is known. Measured with
    # mobilenetv2_100 on emoji (60 steps of 40 pairs, InfoNCE, 64 pixels, recall@1 on 300 unseen classes, one seed
    # or two): 0.1 gives 0.34 to 0.37, 1.0 gives 0.26, and the backbone frozen 0.23. A layer_decay of 0.9 or 0.75
    # gave less in every run (0.31 and 0.28), so all of the backbone learns at one rate.
    "finetune.backbone_rate": 0.1,
    # Decoupled decay works through the rate, and rates are low here: 0.05, as BEiT is fine-tuned.
    "training.weight_decay": 0.05,
    # Gradients of a random head are large and point anywhere: twice the usual rise, and a bound on their length
    # (1.0, the common bound for fine-tuning).
    "training.warmup": 0.1,
    "training.max_gradient_norm": 1.0,
}

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # The defaults are for a network that learns from nothing.
    "small": {},
    "fine-tune": _FINE_TUNE,
    "fine-tune-sgd": {
        # Published advice: new layers at 0.01, and pretrained ones at a tenth of it, 1e-3.
        "training.optimizer": "sgd",
        "training.learning_rate": 1e-2,
        "finetune.backbone_rate": 0.1,
        "training.momentum": 0.9,
        # SGD's decay is not decoupled: 5e-4 of the weight is added to its gradient.
        "training.weight_decay": 5e-4,
    },
    "photos": {
        **_FINE_TUNE,
        # Features of ImageNet know photographs already, and training must not cost what they know. The head begins as
        # relevant components, which lose little and pass over what pictures of a class differ by, and the end is a mean
        # of the weights loaded and trained (Wortsman et al. 2022). Measured by `make bench-finetune`.
        "model.hidden_dim": 0,
        "model.embedding_dim": 512,
        "finetune.head": "rca",
        "finetune.trained_share": 0.6,
        "training.mirror": 0.5,
        "training.colour": 0.5,
    },
    # The head alone learns, at its usual rate: the backbone cannot be spoiled.
    "frozen": {"finetune.trainable_stages": 0},
}

Budget: TypeAlias = Literal["small", "medium", "large"]

_BUDGETS: Mapping[str, Mapping[str, Any]] = {
    # The defaults: minutes on two cores.
    "small": {},
    # Twice the channels cost three to four times as much a picture.
    "medium": {
        "model.widths": (64, 128, 256),
        "model.embedding_dim": 256,
        "training.num_triplets": 100_000,
        "training.num_segments": 20,
    },
    # A GPU is idle under batches of 96, and more classes a batch are more negatives.
    "large": {
        "model.widths": (128, 256, 512),
        "model.embedding_dim": 512,
        "training.num_triplets": 1_000_000,
        "training.batch_triplets": 512,
        "training.num_segments": 40,
    },
}


def budget_settings(name: str) -> Mapping[str, Any]:
    """Return the settings of a `Budget`, "section.name" to value: how large a new network, how long, in which batches.

    - "small": none, the defaults: 20,000 triplets or 4 passes over the classes, minutes on two cores.
    - "medium": twice the channels, 100,000 triplets: hours on two cores.
    - "large": four times the channels, batches of 512, a million triplets: for a GPU. It was never run on one.

    A pretrained backbone has its own size, so `model.widths` changes nothing there. Raises `InputError` for another
    name.

    >>> budget_settings("medium")["training.num_triplets"]
    100000
    """
    if name not in _BUDGETS:
        raise InputError(f"budget: {name!r} is not one of {', '.join(map(repr, get_args(Budget)))}")
    return dict(_BUDGETS[name])


def preset_settings(name: str) -> Mapping[str, Any]:
    """Return the settings of a `Preset`, "section.name" to value, as `override_config` takes them for `flags`.

    - "small": none, the defaults; for training from nothing.
    - "fine-tune": AdamW, 1e-3 for the head and 1e-4 for all of the backbone, gradients shortened to 1.
    - "fine-tune-sgd": SGD with momentum 0.9, 0.01 for the head and 1e-3 for all of the backbone, decay 5e-4.
    - "photos": "fine-tune" for photographs: the head begins as relevant components, pictures are mirrored and
      recoloured, and the weights at the end are six tenths trained and four tenths as loaded.
    - "frozen": the head alone learns.

    In all but "small", batch norm of a pretrained backbone keeps its statistics (`finetune.batch_norm` "auto"). Raises
    `InputError` for another name.

    >>> preset_settings("frozen")
    {'finetune.trainable_stages': 0}
    """
    if name not in _SETTINGS:
        raise InputError(f"preset: {name!r} is not one of {', '.join(map(repr, get_args(Preset)))}")
    return dict(_SETTINGS[name])
