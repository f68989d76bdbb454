import numpy as np
import pytest
import torch

from mohs.errors import InputError
from mohs.mining import mine

FLAG_PROBLEMS = [
    (["--negatives", "0"], ["--negatives: 0 is not a whole number of at least 1; use for example 4"]),
    (["--metric", "dot"], ["--metric: 'dot' is not one of 'euclidean', 'cosine'"]),
    (["--positive-rule", "far"], ["--positive-rule: 'far' is not one of 'random', 'easy', 'hard'"]),
    (["--candidates", "none"], ["--candidates: 'none' is not one of 'all', 'sample', 'catalog'"]),
    (["--method", "quick"], ["--method: 'quick' is not one of 'exact', 'sampled', 'auto'"]),
    (["--device", "gpu"], ["--device: 'gpu' is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'"]),
    (
        ["--positive-rule", "hard", "--prefer", "catalog"],
        ["--prefer: 'catalog' is for random positives; leave it out, or --positive-rule hard"],
    ),
    (
        ["--anchors", "catalog", "--prefer", "catalog", "--positive-rule", "easy", "--candidates", "catalog"],
        [
            "--prefer: 'catalog' is for random positives; leave it out, or --positive-rule easy",
            "--prefer: 'catalog' with --anchors catalog, which decides who is the positive; leave one of the two out",
            "--positive-rule: 'easy' with --anchors catalog: it takes any picture of the class, whatever its role; "
            "leave one of the two out",
            "--candidates: 'catalog' with --anchors catalog, whose negatives are samples; leave one of the two out",
        ],
    ),
    (
        ["--method", "sampled"],
        [
            "--method: 'sampled': range is exact only: sampling its extremes fails; use the method exact, or the scale "
            "rank or log-rank"
        ],
    ),
    (
        ["--num-sampled", "512"],
        ["--num-sampled: 512 given for exact mining; use --method sampled or auto, or leave it out"],
    ),
    (
        ["--method", "auto", "--num-sampled", "255"],
        ["--num-sampled: 255 is not a whole number of at least 256; use for example 4096"],
    ),
    (
        ["--device", "cuda", "--scale", "rank", "--method", "sampled", "--negatives", "2", "--review-list", "none.csv"],
        [
            "--method: 'sampled' is for the CPU, not for 'cuda'; use the method exact, or leave the device out",
            "--negatives: 2 is for the CPU, not for 'cuda'; use 1, or leave the device out",
            "--review-list: they are for the CPU, not for 'cuda'; leave them out, or leave the device out",
        ],
    ),
    # All that is wrong, together.
    (
        [
            "--metric",
            "dot",
            "--margin",
            "0.5",
            "--curve",
            "closed-loop",
            "--negatives",
            "-1",
            "--embedder",
            "a",
            "--embeddings",
            "b",
        ],
        [
            "--metric: 'dot' is not one of 'euclidean', 'cosine'",
            "--negatives: -1 is not a whole number of at least 1; use for example 4",
            "--margin: 0.5 has no meaning on the scale 'range'; leave it out, or use the scale margin",
            "--embedder, --embeddings: both given; use one of them",
            "--curve: 'closed-loop' reads training; use it with 'mohs train', or give a curve",
        ],
    ),
]


@pytest.mark.parametrize(("flags", "lines"), FLAG_PROBLEMS, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_known_before_the_work(flags, lines, run_cli, tmp_path):
    # The table does not exist: its message would show that flags were looked at too late.
    answer = run_cli("mine", tmp_path / "none.csv", *flags, "--out", tmp_path / "p")
    assert (answer.code, answer.out, answer.err) == (2, "", [f"mohs: {line}" for line in lines])
    assert list(tmp_path.iterdir()) == []


def test_an_accelerator_that_is_not_here(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, why in (("cuda:1", " (no CUDA device)"), ("mps", "")):
        answer = run_cli("mine", tmp_path / "none.csv", "--device", name, "--out", tmp_path / "p")
        assert answer.err == [
            f"mohs: --device: {name!r} is not available here{why}; use 'cpu', or leave the device out"
        ]


def test_what_mining_refuses_names_flags_and_files(run_cli, tmp_path):
    """Only the pictures of a class can tell: they are not known before the table has been read."""
    rows = ["file,class,role", "0.png,a,sample", "1.png,a,sample", "2.png,b,sample", "3.png,a,catalog"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "review.csv").write_text("file,other\n1.png,2.png\n2.png,0.png\n3.png,2.png\n")
    x = np.float32([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    np.save(tmp_path / "x.npy", x)
    cases = {
        ("--candidates", "catalog"): "--candidates: anchor 0 (position 1) of class 'a' has no negative: none of the 1 "
        "candidates is of another class (1 such anchors); add candidates of other classes or leave these anchors out",
        ("--negatives", "2"): "--negatives: anchor 0 (position 1) of class 'a' has only 1 negatives of the 2 asked for "
        "(1 such anchors); ask for fewer, add candidates of other classes or leave these anchors out",
        ("--review-list", tmp_path / "review.csv"): "--review-list: anchor 2 (position 0) of class 'b' has no negative "
        "left: the excluded pairs take all 3 of them (3 such anchors); exclude fewer, add candidates of other classes "
        "or leave these anchors out",
        ("--metric", "cosine"): f"{tmp_path / 'x.npy'}: row 2 has norm 0 (1 in all) and cannot be normalised; leave it "
        "out or use plain Euclidean distances",
    }
    for flags, line in cases.items():
        answer = run_cli(
            "mine", tmp_path / "t.csv", "--embeddings", tmp_path / "x.npy", "--triplets", 3, "--seed", 2, "--quiet",
            *flags, "--out", tmp_path / "p",
        )  # fmt: skip
        assert (answer.code, answer.err) == (2, [f"mohs: {line}"])
    assert not (tmp_path / "p").exists()
    # In Python the same is named after the argument.
    with pytest.raises(InputError, match=r"^embeddings_ND: row 2 has norm 0"):
        mine(x, [0, 0, 1, 0], anchors_T=[0], hardness_T=1.0, metric="cosine")
