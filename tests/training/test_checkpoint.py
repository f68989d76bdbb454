"""Checkpoints: whole or absent, two kept, damage noticed."""

from pathlib import Path

import pytest
import torch

from mohs.errors import InputError
from mohs.training import checkpoint as module
from mohs.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def moment(step: int) -> Checkpoint:
    tensors = {"embedder": {"weight": torch.full((3, 2), float(step))}, "optimizer": {"state": {0: {"step": step}}}}
    return Checkpoint(step, tensors, {"triplets": 10 * step})


def test_there_and_back(tmp_path: Path) -> None:
    layout = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, Checkpoint(7, {"w": layout}, {"row": 3, "spread": 0.1 + 0.2}))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.step, loaded.values, loaded.skipped) == (7, {"row": 3, "spread": 0.1 + 0.2}, ())
    assert torch.equal(loaded.tensors["w"], layout)
    assert loaded.tensors["w"].stride() == layout.stride()


def test_the_newest_of_two_is_kept_and_loaded(tmp_path: Path) -> None:
    for step in (1, 5, 20, 100_000_000):
        save_checkpoint(tmp_path, moment(step))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "step-00000020.json",
        "step-00000020.pt",
        "step-100000000.json",
        "step-100000000.pt",
    ]
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 100_000_000


def test_the_same_step_twice_keeps_the_later_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, moment(3))
    save_checkpoint(tmp_path, Checkpoint(3, {"w": torch.zeros(1)}, {"row": 9}))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.values == {"row": 9}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "nowhere") is None
    # A kill between the two files leaves tensors without their JSON.
    (tmp_path / "step-00000003.pt").write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "json", "format"])
def test_damage_falls_back_to_the_one_before_and_says_so(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, moment(step))
    tensors, record = tmp_path / "step-00000002.pt", tmp_path / "step-00000002.json"
    data = bytearray(tensors.read_bytes())
    match damage:
        case "cut":
            tensors.write_bytes(data[:-1])
        case "flip":
            data[len(data) // 2] ^= 1
            tensors.write_bytes(data)
        case "missing":
            tensors.unlink()
        case "json":
            record.write_text('{"format": 1,')
        case "format":
            record.write_text('{"format": 99}')
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 1
    assert len(loaded.skipped) == 1
    assert "step-00000002" in loaded.skipped[0]
    (tmp_path / "step-00000001.pt").unlink()
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path)
    assert len(caught.value.problems) == 2


def test_a_kill_while_writing_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, moment(step))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("write_summed", "sha256_file"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(tmp_path, moment(3))
        loaded = load_checkpoint(tmp_path)
        assert loaded is not None
        assert loaded.step == 2
    save_checkpoint(tmp_path, moment(4))
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".json", ".pt", ".pt"]
