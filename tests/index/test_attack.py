"""The attack on an index, shortened: the same operations and kills as the benchmark, which make no difference."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def attack() -> ModuleType:
    pytest.importorskip("lancedb", reason="lancedb is absent: operations and kills of an index are NOT tested")
    spec = importlib.util.spec_from_file_location("attack_index", ROOT / "benchmarks" / "attack_index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["attack_index"] = module
    spec.loader.exec_module(module)
    return module


def test_random_operations_leave_what_a_dictionary_has(attack: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    attack.operations(30)
    assert "30 operations" in capsys.readouterr().out


def test_a_kill_leaves_the_state_before_or_after(attack: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    attack.kills(1)
    assert "none in part" in capsys.readouterr().out


def test_a_store_that_loses_an_item_is_noticed(attack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attack.Store.remove
    monkeypatch.setattr(attack.Store, "remove", lambda self, ids: whole(self, ids[1:]) if len(ids) > 1 else None)
    with pytest.raises(AssertionError, match="items, not"):
        attack.operations(60)
