"""What a run is: frozen settings, checked as they are read, from TOML, flags or Python.

Every field says its unit and range; an unknown name is an error. `mohs train --print-config` shows the result. The file
is long since it is the list of all settings, in the order in which they are shown.
"""

import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, final

from pydantic import Field, ValidationError, field_validator

from mohs.checks import path_of, require
from mohs.data.cache import is_cache_folder
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy
from mohs.data.multi_label import MultiLabel
from mohs.data.reading import read_listing
from mohs.data.table import Table
from mohs.errors import DataWarning, InputError, Problem
from mohs.hardness import curves
from mohs.hardness.curves import Curve
from mohs.hardness.scales import Scale, rule_of
from mohs.sequence import usual_length
from mohs.settings.loss_records import LOSSES, LossRecord, find_record
from mohs.settings.section import Section, setting_problems
from mohs.settings.toml import flat_settings, read_settings_file, write_toml

__all__ = [
    "ClassificationConfig",
    "DataConfig",
    "FinetuneConfig",
    "GuardConfig",
    "HardnessConfig",
    "LossConfig",
    "MemoryConfig",
    "ModelConfig",
    "NegativesConfig",
    "RunConfig",
    "TrainingConfig",
    "load_config",
    "load_run_config",
    "override_config",
    "parse_config",
    "parse_settings",
]

_Unit: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
_Count: TypeAlias = Annotated[int, Field(ge=1)]
_LOSS_NAMES = ", ".join(record.name for record in LOSSES)


@final
class DataConfig(Section):
    """What there is to learn from."""

    source: str = Field("glyphs", description="CSV, Parquet, folder of class folders, or 'glyphs' (built in)")
    catalog: str | None = Field(None, description="table with one reference picture per class; none: there is none")
    file_column: str = Field("file", description="column of the table with the picture's file")
    class_column: str = Field("class", description="column of the table with the class")
    group_column: str = Field(
        "group",
        description="column of sessions, cameras or product families: a group is on one side of the split; '': none",
    )
    multi_label: MultiLabel = Field(
        "error",
        description="what to do with a picture listed under several classes; error: stop; first: keep its first "
        "row; drop: leave the picture out; merge: make its classes one",
    )
    size: Annotated[int, Field(ge=8, le=1024)] = Field(64, description="side of the square network input, pixels")
    channels: Literal[1, 3] = Field(3, description="1 grey, 3 RGB")
    fit: Literal["pad", "stretch", "crop"] = Field("pad", description="how a picture becomes square")
    white_level: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="value of white in grey pictures of more than 8 bits, such as 4095 for 12; none: 65535"
    )
    split_by: Literal["class", "item"] = Field(
        "class",
        description="what the test is on; class: classes that training never sees; item: other pictures of the "
        "classes that it trains on",
    )
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.2, description="share of the classes, or pictures, that are for the test"
    )
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.0,
        description="share of the training classes that are held out: never trained on, measured after each segment; "
        "0: none",
    )
    per_class: _Count | None = Field(None, description="keep at most this many pictures of a class; none: all")
    max_classes: _Count | None = Field(None, description="keep only this many classes, the first by name; none: all")
    max_bad_images: Annotated[int, Field(ge=0)] = Field(
        0, description="most unreadable pictures that are left out and named; more of them are an error"
    )
    cache: str | None = Field(None, description="folder for decoded pictures; none: the user's cache folder")

    @property
    def policy(self) -> ImagePolicy:
        """How pictures become arrays under these settings."""
        return ImagePolicy(self.size, self.channels, self.fit, self.white_level)

    def read_listing(self) -> Table:
        """Return every row of the table or folder: see `mohs.data.reading.read_listing`."""
        return read_listing(
            self.source,
            catalog=self.catalog,
            file_column=self.file_column,
            class_column=self.class_column,
            group_column=self.group_column,
        )

    def open(self, policy: ImagePolicy | None = None, *, progress: Callable[[int, int], None] | None = None) -> Dataset:
        """Return all pictures, prepared by `policy` or by these settings: see `mohs.data.dataset.open_dataset`."""
        return open_dataset(
            self.source,
            catalog=self.catalog,
            policy=policy or self.policy,
            cache_dir=None if self.cache is None else Path(self.cache),
            file_column=self.file_column,
            class_column=self.class_column,
            group_column=self.group_column,
            multi_label=self.multi_label,
            max_bad_images=self.max_bad_images,
            progress=progress,
        )


USUAL_HIDDEN = 256
"""Units of the first dense layer of a head, where nothing says how many."""

USUAL_CLIQUE = 8
"""Classes that enter a batch together, where it has cliques and nothing says how large."""

USUAL_BANK_NEGATIVES = 8
"""Negatives from the bank, where there is one and nothing says how many; with 8 to 128 R@1 is the same."""

USUAL_AUGMENT, USUAL_AUGMENT_OF_MANY = 0.7, 0.4
"""How far training pictures change where nothing says it: usually, and where a new network learns as many classes as a
bank is usual for. Among so many some differ by less than a picture changes (lab book)."""

FEWEST_CLASSES_OF_BANK = 8_000
"""Training classes from which on a bank is usual: with fewer it gains nothing that its time would not (lab book)."""


@final
class ModelConfig(Section):
    """Backbone and embedding head."""

    backbone: str = Field("small", description="'small' (built in) or the name of a timm model")
    weights: str | None = Field(None, description="safetensors file with the backbone's weights; none: no such file")
    pretrained: str | None = Field(
        None,
        description="tag of timm's weights, from the Hugging Face hub or its cache; 'default': the model's own; "
        "none: no such weights",
    )
    start: str | None = Field(
        None,
        description="run, saved embedder or hf-hub:user/name whose weights the network begins with; none: see "
        "model.weights and model.pretrained; without them random ones",
    )
    backbone_options: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict, description="passed to timm.create_model, for example {pad_type = 'same'}"
    )
    mean: tuple[float, ...] | None = Field(
        None, description="subtracted from each channel of pictures in [0, 1]; none: the backbone's"
    )
    std: tuple[float, ...] | None = Field(
        None, description="each channel is divided by it, after mean; none: the backbone's"
    )
    widths: tuple[_Count, ...] = Field((32, 64, 128), description="channels of the stages of the small network")
    embedding_dim: _Count = Field(128, description="numbers in an embedding")
    hidden_dim: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="units of the head's first dense layer; 0: no such layer; none: 0 where muon trains a new network, "
        "else 256",
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="share of the features that are dropped before the head's first dense layer"
    )
    batch_norm: bool = Field(True, description="batch norm in the head and in the small network")

    @property
    def hidden_units(self) -> int:
        """Units of the head's first dense layer: `hidden_dim`, or the usual number where it is left open."""
        return USUAL_HIDDEN if self.hidden_dim is None else self.hidden_dim

    @property
    def beginning(self) -> str | None:
        """The setting that gives weights to begin with, "model.weights" and so on; None for a new network."""
        given = (name for name in ("weights", "pretrained", "start") if getattr(self, name) is not None)
        return next((f"model.{name}" for name in given), None)

    @property
    def is_pretrained(self) -> bool:
        """Whether the backbone begins with weights that were trained on other pictures, and the head does not."""
        return self.beginning in ("model.weights", "model.pretrained")


@final
class HardnessConfig(Section):
    """Which negative, when."""

    curve: Literal["auto", "constant", "linear", "sine", "tanh", "logarithmic", "sigmoid", "closed-loop"] = Field(
        "auto",
        description="how hardness changes over the run; auto: constant for in-batch losses, sigmoid for others; "
        "closed-loop: not a curve but a controller that reads training, see target_active",
    )
    cap: _Unit | None = Field(
        None,
        description="largest hardness that the curve or the closed loop reaches; none: 0.85, or 1 if curve is "
        "auto and the loss in-batch",
    )
    growth: Annotated[float, Field(gt=0.0)] = Field(3.0, description="how steeply the curve rises")
    cycles: _Count = Field(1, description="repetitions of the curve within the run")
    scale: Scale = Field(
        "log-rank",
        description="what a hardness means; range: a share of the distances; rank: a share of the negatives; log-rank: "
        "the same in logarithms, finer among the nearest; margin: a share of the loss's margin",
    )
    target_active: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5,
        description="share of active triplets that the closed loop aims for; more stay active if reaching it "
        "would need negatives easier than the median one, or ones of which fewer than half this share "
        "lie nearer than the positive",
    )
    gain: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0,
        description="how fast the closed loop follows what a segment showed; 1: all of the way at once; 0.5: half "
        "of it",
    )

    def resolved(self, *, in_batch: bool) -> "HardnessConfig":
        """Return these settings with the curve that "auto" and the cap that none mean for a loss.

        On in-batch losses the classes that meet are the nearest from the start: that beat the rising sigmoid, the one
        curve that was tried beside it (docs/lab-book.md). Triplets of the hardest negatives collapse: theirs rise.

        >>> HardnessConfig().resolved(in_batch=True).cap, HardnessConfig(curve="linear").resolved(in_batch=True).cap
        (1.0, 0.85)
        """
        nearest = in_batch and self.curve == "auto"
        values: dict[str, Any] = {"cap": (1.0 if nearest else 0.85) if self.cap is None else self.cap}
        if self.curve == "auto":
            values["curve"] = "constant" if in_batch else "sigmoid"
        return self.model_copy(update=values)

    def build(self) -> Curve:
        """Return the curve as a function from progress to hardness; for the closed loop, the constant it starts at.

        What is left open is as for losses on triplets.
        """
        resolved = self.resolved(in_batch=False)
        cap = resolved.cap
        assert cap is not None
        match resolved.curve:
            case "auto" | "closed-loop":
                return curves.constant(0.0)
            case "constant":
                curve = curves.constant(cap)
            case "linear":
                curve = curves.linear(cap)
            case "sine":
                curve = curves.sine(cap)
            case "tanh":
                curve = curves.tanh(cap, self.growth)
            case "logarithmic":
                curve = curves.logarithmic(cap, self.growth)
            case "sigmoid":
                curve = curves.sigmoid(cap, self.growth)
        return curve if self.cycles == 1 else curves.cyclic(curve, self.cycles)


@final
class LossConfig(Section):
    """What training lowers."""

    name: str = Field(
        "infonce",
        description=f"what training lowers: {_LOSS_NAMES}, or a loss class of pytorch-metric-learning",
    )
    margin: Annotated[float, Field(gt=0.0)] = Field(
        0.2,
        description="how much farther than the positive a negative must be to have no loss; contrastive: the "
        "distance to which negatives are pushed",
    )
    squared: bool = Field(True, description="true: the loss is of squared Euclidean distances; false: of plain ones")
    swap: bool = Field(
        False,
        description="true: the negative's distance is that to the anchor or to the positive, whichever is "
        "smaller; false: that to the anchor",
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(0.1, description="divides the similarities in the softmax")
    options: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict, description="parameters of a loss of pytorch-metric-learning, for example {gamma = 80}"
    )
    miner: str | None = Field(
        None,
        description="picks pairs within a batch: semi-hard, batch-hard, multi-similarity, distance-weighted, or a "
        "miner class of pytorch-metric-learning; none: all pairs count",
    )
    miner_options: Mapping[str, str | int | float | bool] = Field(
        default_factory=dict, description="parameters of the miner, for example {epsilon = 0.1}"
    )
    learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="learning rate of the loss's own parameters (proxies, class weights); none: training.learning_rate",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        # Which classes the library has is checked where it is imported: it is slow to import.
        if find_record(name) not in LOSSES and not name[:1].isupper():
            raise ValueError(
                f"it should be one of {_LOSS_NAMES}, or a class name (in capitals) of pytorch_metric_learning.losses"
            )
        return name

    @property
    def record(self) -> LossRecord:
        """What is known of the loss of this name."""
        return find_record(self.name)

    @property
    def extends_to_bank(self) -> bool:
        """Whether negatives from a bank may be added to those of the batch (`mohs.training.negative_bank`)."""
        return self.record.extends_to_bank and self.miner is None

    @property
    def in_batch(self) -> bool:
        """Whether the loss takes its negatives from the batch, so that only anchors and positives are shown."""
        return self.record.in_batch

    @property
    def pictures_per_triplet(self) -> int:
        """Pictures that one triplet of the plan shows to the network: 2 for in-batch losses, else 3."""
        return self.record.pictures_per_triplet


@final
class TrainingConfig(Section):
    """How long, how fast, on what."""

    num_triplets: _Count | None = Field(
        None, description="length of the plan, in triplets; none: 4 passes over the classes, and at least 20,000"
    )
    batch_triplets: Annotated[int, Field(ge=2)] = Field(96, description="triplets per step")
    pictures_at_once: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="pictures that go through the network at a time in a step; its gradient is that of the whole "
        "batch, in the memory that this number takes, for one more forward pass; none: all of the batch",
    )
    num_segments: _Count = Field(
        10, description="number of segments; negatives are mined again before each, by the network as it is then"
    )
    neighbourhood: _Count | None = Field(
        None,
        description="size of a clique, a class and its nearest classes that enter a batch together; 1: batches of "
        "random classes; none: 8, or 1 with a bank (memory.num_negatives)",
    )
    neighbourhood_from: _Unit = Field(
        0.1, description="share of the run with random batches at its beginning; mined negatives are used after it"
    )
    embed_anew: bool = Field(
        False,
        description="true: embed the pictures of each segment before it is planned; false: reuse, at no cost, the "
        "embeddings from when training last showed each picture",
    )
    anchors: Literal["any", "sample", "catalog"] = Field(
        "any",
        description="which pictures are anchors; catalog: catalog pictures, with samples for positives and negatives; "
        "sample: samples, with their catalog pictures first for positives; any: samples, and prefer_positive decides",
    )
    prefer_positive: Literal["class", "catalog"] = Field(
        "class", description="which positive comes first; class: any picture of the class; catalog: its catalog picture"
    )
    optimizer: Literal["auto", "adamw", "sgd", "muon"] = Field(
        "auto",
        description="optimiser; sgd: with Nesterov momentum; muon: for matrices, with adamw for the rest; auto: "
        "muon for new networks under in-batch losses, else adamw",
    )
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(
        4e-3, description="peak learning rate of the head and of new backbones"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.9, description="share of the last step that sgd keeps")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        1e-2,
        description="weight decay, the pull of the weights towards 0; sgd adds it to the gradient, adamw and muon "
        "apply it apart (decoupled)",
    )
    max_gradient_norm: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="gradient clipping: a gradient with a larger norm is shortened to this one; 0: never"
    )
    warmup: _Unit = Field(
        0.05,
        description="warm-up: share of the steps in which the learning rate rises; after it the rate falls to 0 "
        "along a cosine",
    )
    augment: _Unit | None = Field(
        None,
        description="random rotation and change of size of training pictures; 1: up to 10 degrees and 15%; 0: no "
        "change; none: 0.4 where a new network learns 8,000 classes or more, else 0.7",
    )
    mirror: _Unit = Field(
        0.0,
        description="share of training pictures that are mirrored; leave it 0 where left and right matter (letters)",
    )
    colour: _Unit = Field(
        0.0, description="random change of brightness and contrast of training pictures; 1: up to 40% each; 0: none"
    )
    whiten: bool | None = Field(
        None,
        description="after the last step, make directions count less in which embeddings of one class vary; it is done "
        "in the head's last layer; none: true with a bank (memory.num_negatives), else false",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="device to compute on; auto: a GPU where there is one, else the CPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format that training computes in; auto: bfloat16 on CUDA, else float32"
    )
    overlap: bool = Field(
        False,
        description="true: plan the next segment while this one trains, by the network as it was at the start of "
        "this one",
    )
    checkpoint_s: Annotated[float, Field(gt=0.0)] = Field(
        60.0, description="seconds between checkpoints within a segment; one is written before each segment, too"
    )
    held_out_curve: bool = Field(
        True,
        description="true: measure R@1 after each segment, on held-out classes (data.validation_fraction); "
        "without them on up to 200 test pictures, to look at only",
    )
    stop_after: _Count | None = Field(
        None,
        description="early stopping: the run ends after this number of segments without a better R@1 on held-out "
        "classes (data.validation_fraction), and has the weights of its best one; none: it goes on, and has the "
        "last weights",
    )
    tensorboard: bool = Field(False, description="also write the events for TensorBoard (needs mohs[track])")

    @property
    def augment_strength(self) -> float:
        """How far pictures change; where it is not given, the usual (`RunConfig.for_classes` gives that of many)."""
        return USUAL_AUGMENT if self.augment is None else self.augment

    @property
    def length(self) -> int:
        """The triplets of the run, where they are given or `RunConfig.for_classes` has filled them in."""
        assert self.num_triplets is not None, "RunConfig.for_classes says how long a run on the data is"
        return self.num_triplets


@final
class FinetuneConfig(Section):
    """What of a pretrained backbone learns, how fast, and from when."""

    train_from: str | None = Field(
        None,
        description="first block of the backbone that learns, by name, for example 'blocks.5'; none: "
        "trainable_stages decides",
    )
    trainable_stages: Annotated[int, Field(ge=0)] | None = Field(
        None, description="stages of the backbone that learn, counted from its output; 0: the head alone; none: all"
    )
    unfreeze_at: tuple[_Unit, ...] = Field(
        (),
        description="points of the run, as shares of it, at which one more stage begins to learn, the one nearest "
        "to the output first",
    )
    batch_norm: Literal["auto", "train", "eval"] = Field(
        "auto",
        description="batch norm of the backbone; train: statistics follow the batches; eval: they stay as loaded; "
        "auto: eval for pretrained weights, else train",
    )
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0,
        description="layer-wise decay: learning rate of each layer group as a share of that of the next one "
        "towards the output",
    )
    backbone_rate: Annotated[float, Field(gt=0.0)] = Field(
        1.0,
        description="learning rate of the backbone's last layer group, as a share of the head's "
        "(training.learning_rate)",
    )
    head: Literal["random", "pca", "rca"] = Field(
        "random",
        description="first weights of a head without hidden layer; pca: principal components of the features; "
        "rca: the same after dividing the features by their variation within classes",
    )
    trained_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the trained weights in the final ones; the rest is those from the start"
    )


@final
class ClassificationConfig(Section):
    """A warm-up before metric learning: tell the training classes apart."""

    num_pictures: Annotated[int, Field(ge=0)] = Field(0, description="pictures shown in the warm-up; 0: no warm-up")
    loss: Literal["cross-entropy", "arcface"] = Field("cross-entropy", description="loss of the warm-up")
    temperature: Annotated[float, Field(gt=0.0)] = Field(0.05, description="divides the cosine similarities")
    margin: Annotated[float, Field(ge=0.0, lt=1.6)] = Field(0.3, description="angle that arcface adds, radians")
    from_catalog: bool = Field(True, description="class weights start at the embeddings of catalog pictures, if any")
    learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="peak rate of the warm-up; none: training.learning_rate"
    )


@final
class NegativesConfig(Section):
    """Which negatives are not to be trusted."""

    min_distance_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0,
        description="a negative nearer than this share of the positive's distance is dropped and listed for "
        "review; 0: none is dropped",
    )
    skip_nearest: Annotated[int, Field(ge=0)] = Field(
        0, description="number of nearest negatives that are never chosen"
    )
    drop_duplicates: bool = Field(
        True, description="true: equal pictures under two classes are not used as negatives of each other"
    )
    review_list: str | None = Field(
        None, description="CSV of pairs (file, other) that a person found not to be negatives; none: no such list"
    )


@final
class MemoryConfig(Section):
    """Momentum pairs: infonce and supcon with the nearest of all that was shown lately for negatives."""

    num_negatives: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="number of negatives that each picture gets from the bank, at the hardness of the schedule, "
        "without seeing them again; and from its batch, the nearest; 0: no bank; none: 8 for infonce and supcon where "
        "Muon trains a new network on 8,000 classes or more, else 0",
    )
    size: Annotated[int, Field(ge=1)] = Field(
        16_384, description="number of items in the bank, those that were shown last"
    )
    from_progress: _Unit = Field(0.0, description="share of the run without the bank, at its beginning")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] | None = Field(
        None,
        description="momentum of the encoder that fills the bank: the share of its own weights that it keeps at a "
        "step; none: 1 - 10 / number of steps, a tenth of the run behind, and 0.99 from 1,000 steps on",
    )


@final
class GuardConfig(Section):
    """What happens when training collapses."""

    enabled: bool = Field(True, description="true: watch for a collapse; NaN and Inf stop the run in any case")
    action: Literal["warn", "lower-hardness", "cut-rate", "roll-back", "stop"] = Field(
        "roll-back",
        description="what happens on a collapse; warn: only a warning; lower-hardness: half the hardness; "
        "cut-rate: 0.3 of the learning rate; roll-back: the last healthy state, with both of these; "
        "stop: the run ends",
    )
    max_actions: _Count = Field(5, description="actions after which a further collapse stops the run")


@final
class RunConfig(Section):
    """Everything that decides a run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="decides every random choice")
    out: str | None = Field(None, description="run folder, must not exist yet; none: runs/NAME-001 and so on")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    hardness: HardnessConfig = HardnessConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    classification: ClassificationConfig = ClassificationConfig()
    negatives: NegativesConfig = NegativesConfig()
    memory: MemoryConfig = MemoryConfig()
    guard: GuardConfig = GuardConfig()

    @property
    def optimizer(self) -> Literal["adamw", "sgd", "muon"]:
        """The optimiser that `training.optimizer` means.

        "auto" is muon where it was measured to be better (docs/lab-book.md), adamw elsewhere: muon learns new networks
        faster, and would turn what pretrained weights know.
        """
        if self.training.optimizer != "auto":
            return self.training.optimizer
        return "muon" if self.loss.record.prefers_muon and self.model.beginning is None else "adamw"

    @property
    def asked_hardness(self) -> HardnessConfig:
        """The hardness settings with what is left open decided for the loss, see `HardnessConfig.resolved`."""
        return self.hardness.resolved(in_batch=self.loss.in_batch)

    @property
    def network(self) -> ModelConfig:
        """The settings of the network with the hidden layer decided: none where Muon trains a new network.

        There it cost 1 to 8 points of R@1 on four data sets; with Adam it made no clear difference to SupCon
        (docs/lab-book.md).
        """
        if self.model.hidden_dim is not None:
            return self.model
        hidden_dim = 0 if self.optimizer == "muon" and self.model.beginning is None else USUAL_HIDDEN
        return self.model.model_copy(update={"hidden_dim": hidden_dim})

    @property
    def num_bank_negatives(self) -> int:
        """The number of negatives from the bank; 0: there is none, or `for_classes` has not decided it yet."""
        return self.memory.num_negatives or 0

    @property
    def bank_momentum(self) -> float:
        """The momentum that `memory.momentum` means: of a run of S steps min(1 − 10 / S, 0.99).

        So the encoder is S / 10 steps behind, and at most 100. S is the number of triplets over that of a batch; a run
        has a few steps more, for segments end with a batch.

        >>> [RunConfig(training=TrainingConfig(num_triplets=n)).bank_momentum for n in (9_600, 960_000)]
        [0.9, 0.99]
        """
        if self.memory.momentum is not None:
            return self.memory.momentum
        return min(0.99, max(0.0, 1.0 - 10.0 * self.training.batch_triplets / self.training.length))

    @property
    def clique_size(self) -> int:
        """The number of classes that `training.neighbourhood` means; 1: batches of random classes.

        With a bank they are random: what is near comes from there, and cliques beside it cost R@1 (docs/lab-book.md).
        """
        if self.training.neighbourhood is not None:
            return self.training.neighbourhood
        return 1 if self.num_bank_negatives else USUAL_CLIQUE

    @property
    def whitens(self) -> bool:
        """Whether the head is whitened after the last step: as `training.whiten` says, or else where a bank is used.

        There it gains a point of R@1, and costs nothing later (docs/lab-book.md).
        """
        uses_bank = self.num_bank_negatives > 0 and self.memory.from_progress < 1.0
        return uses_bank if self.training.whiten is None else self.training.whiten

    @property
    def trains_on_mined(self) -> bool:
        """Whether a plan's negatives say on what is trained: those of a triplet, or who is in a clique.

        Where they do not, they only tell how hard the plan was, and are chosen from few (`plan_segment.py`).
        """
        return not self.loss.in_batch or (self.clique_size > 1 and self.training.neighbourhood_from < 1)

    @property
    def plans_from_steps(self) -> bool:
        """Whether segments are planned from the embeddings that training steps gave, see `training.embed_anew`."""
        return self.loss.in_batch and not self.training.embed_anew

    def for_classes(self, num_classes: int) -> "RunConfig":
        """Return the settings of a run on a number of training classes, with what depends on it decided.

        That is, where none is given, its length, how far its pictures change, and its bank.

        >>> config = RunConfig().for_classes(25_102)
        >>> config.training.num_triplets, config.training.augment, config.memory.num_negatives
        (100408, 0.4, 8)
        """
        changed: dict[str, Any] = {}
        many = num_classes >= FEWEST_CLASSES_OF_BANK
        training: dict[str, Any] = {}
        if self.training.num_triplets is None:
            training["num_triplets"] = usual_length(num_classes)
        if self.training.augment is None:
            of_many = many and self.model.beginning is None
            training["augment"] = USUAL_AUGMENT_OF_MANY if of_many else USUAL_AUGMENT
        if training:
            changed["training"] = self.training.model_copy(update=training)
        if self.memory.num_negatives is None:
            num = USUAL_BANK_NEGATIVES if self.may_have_bank and many else 0
            changed["memory"] = self.memory.model_copy(update={"num_negatives": num})
        return self.model_copy(update=changed)

    @property
    def may_have_bank(self) -> bool:
        """Whether there is a bank, or would be with enough training classes.

        The usual one is for new networks that Muon trains; the closed loop has none, for it does not read the bank.
        """
        if self.memory.num_negatives is not None:
            return self.memory.num_negatives > 0
        usual = self.optimizer == "muon" and self.model.beginning is None and self.hardness.curve != "closed-loop"
        return self.loss.extends_to_bank and usual

    @property
    def margin_is_mined(self) -> bool:
        """Whether mining reads the loss's margin and power, whatever the loss."""
        by_margin = rule_of(self.hardness.scale).needs == "margin"
        return by_margin or self.hardness.curve == "closed-loop" or self.negatives.min_distance_ratio > 0

    def to_toml(self) -> str:
        """Return the settings as TOML that `load_config` reads back; what is not set is left out (TOML has no null)."""
        return write_toml(self.model_dump(mode="json", exclude_none=True))


def parse_config(values: Mapping[str, Any], *, source: str) -> RunConfig:
    """Return the settings in a nested mapping; raise `InputError` with one line for each that is wrong.

    >>> parse_config({"loss": {"margin": -1}}, source="run.toml")
    Traceback (most recent call last):
    mohs.errors.InputError: run.toml: loss.margin: -1 is wrong: input should be greater than 0
    """
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(*setting_problems(error, source=source)) from None
    found = flat_settings(config.model_dump())
    require(
        *(
            Problem(name, f"{value!r:.60} is not below 2**63", "give a smaller number", file=source)
            for name, value in found.items()
            if isinstance(value, int) and value >= 2**63
        ),
    )
    return config


def load_config(path: str | Path) -> RunConfig:
    """Return the settings in a TOML file (or in the config.json of a run folder)."""
    return parse_config(read_settings_file(path_of("path", path)), source=str(path))


def load_run_config(folder: Path) -> RunConfig:
    """Return the settings of a run in a folder, to read it: it may be a stranger's, and nothing is written elsewhere.

    Its `data.cache` is kept if it lies in the run's folder or the user's cache folder, or holds decoded pictures
    already. Otherwise pictures are kept in the user's cache folder; warns (`DataWarning`) of it.
    """
    config = load_config(folder / "config.json")
    cache = config.data.cache
    if cache is None or folder.resolve() in Path(cache).resolve().parents or is_cache_folder(Path(cache)):
        return config
    line = f"{folder / 'config.json'}: data.cache: {cache!r} holds no decoded pictures, so none are written there"
    warnings.warn(line, DataWarning, stacklevel=3)
    return config.model_copy(update={"data": config.data.model_copy(update={"cache": None})})


def override_config(
    file: Path | None, settings: Sequence[str], flags: Mapping[str, Any], *, preset: Mapping[str, Any] | None = None
) -> RunConfig:
    """Return the defaults, changed by `preset`, by `file`, by `settings` and then by `flags`.

    `settings` are texts "section.name=value", the value in TOML or plain text; `preset` and `flags` map "section.name"
    to values.

    >>> override_config(None, ["loss.margin=0.5", "hardness.scale=rank"], {"seed": 3}).loss.margin
    0.5
    """
    values = {} if file is None else read_settings_file(file)
    for name, value in (preset or {}).items():
        section, _, last = name.rpartition(".")
        place = values.setdefault(section, {}) if section else values
        if isinstance(place, dict):
            place.setdefault(last, value)
    for name, value in {**parse_settings(settings), **flags}.items():
        *sections, last = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"--set: {name}: {section!r} is a value, not a section; see --print-config")
        place[last] = value
    return parse_config(values, source="settings" if file is None else str(file))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of texts "section.name=value" by name; raise `InputError` for one without a name or a value.

    >>> parse_settings(["hardness.scale=rank", "loss.margin = 0.5"])
    {'hardness.scale': 'rank', 'loss.margin': 0.5}
    """
    values: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set: {text!r} is not section.name=value; write for example --set loss.margin=0.5")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value  # plain text needs no quotes on a command line
    return values
