"""Which options of a timm model a configuration may set: none that reads a file or an address.

Configurations come from strangers, with saved embedders, and timm passes what it does not know on, so that a list of
what is refused would be short of something with every version. This is a list of what is allowed.
"""

import re
from collections.abc import Mapping
from typing import Final

from mohs.checks import require
from mohs.errors import Problem

__all__ = ["OPTIONS", "check_options"]

OPTIONS: Final = frozenset(
    {
        # What is left out at random in training.
        "attn_drop_rate", "drop_block_rate", "drop_path_rate", "drop_rate", "head_drop_rate", "patch_drop_rate",
        "pos_drop_rate", "proj_drop_rate",
        # What the input is, and how it is cut up.
        "act_layer", "aa_layer", "always_partition", "dynamic_img_pad", "dynamic_img_size", "img_size", "in_22k",
        "pad_type", "patch_size", "strict_img_size", "stem_type", "stem_width", "window_size",
        # What a transformer is made of.
        "class_token", "embed_norm", "fc_norm", "final_norm", "init_values", "mlp_layer", "mlp_ratio",
        "no_embed_class", "norm_layer", "num_heads", "pos_embed", "pre_norm", "qk_norm", "qkv_bias", "reg_tokens",
        "rope_type", "scale_attn_norm", "scale_mlp_norm", "use_abs_pos", "use_rel_pos_bias", "use_rot_pos_emb",
        # How large a network is, and what leaves it.
        "base_width", "bn_eps", "bn_momentum", "cardinality", "conv_bias", "depth", "embed_dim", "fix_group_size",
        "global_pool", "group_size", "head_hidden_size", "head_norm_first", "layer_scale_init_value", "num_features",
        "output_stride", "se_layer", "use_grn", "zero_init_last",
    }
)  # fmt: skip
"""Names of options that shape a network. Their values are numbers, truth values or one plain word."""

_WORD: Final = re.compile(r"[A-Za-z0-9_-]{0,40}")
_LARGEST: Final = 8_192
# Blocks are made one by one, each in milliseconds, before their number can be seen in anything else.
_DEEPEST: Final = 256


def check_options(options: Mapping[str, str | int | float | bool]) -> None:
    """Raise `InputError` for options that are not in `OPTIONS`, and values that are no number or plain word.

    >>> check_options({"img_size": 64, "pad_type": "same"})
    >>> check_options({"checkpoint_path": "x.pth"})
    Traceback (most recent call last):
    mohs.errors.InputError: model.backbone_options.checkpoint_path: not an option that shapes a network; weights are \
given by model.weights
    """
    problems = []
    for name, value in options.items():
        place = f"model.backbone_options.{name}"
        if name not in OPTIONS:
            fix = "weights are given by model.weights" if _loads(name) else "leave it out"
            problems.append(Problem(place, "not an option that shapes a network", fix))
        elif isinstance(value, str) and not _WORD.fullmatch(value):
            problems.append(Problem(place, f"{value[:80]!r} is not a plain word", "write letters, digits, - and _"))
        elif not isinstance(value, str) and not abs(value) <= (limit := _DEEPEST if name == "depth" else _LARGEST):
            problems.append(Problem(place, f"{value!r} is not in [-{limit}, {limit}]", "use a smaller number"))
    require(*problems)


def _loads(name: str) -> bool:
    return "pretrain" in name or "checkpoint" in name or "cache" in name or "weight" in name
