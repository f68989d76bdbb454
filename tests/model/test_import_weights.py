import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from mohs.errors import InputError
from mohs.model.backbones import load_weights
from mohs.model.import_weights import import_weights
from mohs.model.unpickle import main

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    found: dict[str, torch.Tensor] = timm.create_model(NAME).state_dict()
    return {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in found.items()}


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Other names in the same order, as other libraries have them."""
    return {f"module.layer{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(state.items())}


def test_names_that_differ_are_mapped_in_order(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": renamed(state)}, tmp_path / "w.pth")
    made = import_weights(tmp_path / "w.pth", NAME, tmp_path / "w.safetensors")
    assert made.mapped == "in order"
    assert len(made.left_out) == 2  # weight and bias of the classifier
    network = timm.create_model(NAME, num_classes=0)
    load_weights(network, made.path)
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    assert made.num_tensors == len(load_file(made.path))


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read without a process of its own, which takes seconds to import torch."""

    def read(file: Path, out: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("mohs.model.unpickle._limit_memory", lambda _: None)
            if problem := main(str(file), str(out), 10**9):
                raise InputError(f"{file}: {problem}")

    monkeypatch.setattr("mohs.model.import_weights._unpickle", read)


def test_names_that_agree_are_taken(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    torch.save(dict(reversed(state.items())), tmp_path / "w.pth")
    made = import_weights(tmp_path / "w.pth", NAME, tmp_path / "w.safetensors")
    assert made.mapped == "by name"
    assert made.left_out == ("classifier.bias", "classifier.weight")
    torch.testing.assert_close(load_file(made.path)["conv_stem.weight"], state["conv_stem.weight"])


def test_tensors_that_do_not_fit_are_named(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    torch.save({**state, "conv_stem.weight": torch.zeros(2, 2)}, tmp_path / "shape.pth")
    with pytest.raises(InputError, match=r"shape.pth: conv_stem.weight has shape \(2, 2\), the backbone \(\d+, 3, 3"):
        import_weights(tmp_path / "shape.pth", NAME, tmp_path / "w.safetensors")
    swapped = list(renamed(state).items())
    swapped[1], swapped[2] = swapped[2], swapped[1]  # weight and bias of the first batch norm: of one shape
    torch.save(dict(swapped), tmp_path / "order.pth")
    with pytest.raises(InputError, match=r"layer2.bias \(\d+,\) stands where the backbone has bn1.weight"):
        import_weights(tmp_path / "order.pth", NAME, tmp_path / "w.safetensors")
    torch.save(dict(swapped[:9]), tmp_path / "few.pth")
    with pytest.raises(InputError, match=r"few.pth: 8 tensors, and the backbone has "):
        import_weights(tmp_path / "few.pth", NAME, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="backbone: 'test_eficientnet' is no timm model; did you mean 'test_effici"):
        import_weights(tmp_path / "few.pth", "test_eficientnet", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    proof = tmp_path / "proof"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(proof),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil.pth: holds more than weights, which could run code"):
        import_weights(tmp_path / "evil.pth", NAME, tmp_path / "w.safetensors")
    (tmp_path / "text.pth").write_text("no pickle")
    with pytest.raises(InputError, match=r"text.pth: (cannot be read|holds more)"):
        import_weights(tmp_path / "text.pth", NAME, tmp_path / "w.safetensors")
    assert not proof.exists()


def test_a_small_file_that_takes_much_memory_is_stopped(tmp_path: Path) -> None:
    torch.save({"conv_stem.weight": torch.zeros(1).expand(2**30)}, tmp_path / "bomb.pth")
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(InputError, match=r"bomb.pth: takes more than 1,073,741,824 bytes of memory; use another file"):
        import_weights(tmp_path / "bomb.pth", NAME, tmp_path / "w.safetensors")
