"""Two processes on one batch: the same plan, the same rows, and the gradient of the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mohs.errors import InputError
from mohs.training.processes import Processes, processes

SCRIPT = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.data.images import ImagePolicy
from mohs.training.processes import processes
from mohs.training.shared_batch_norm import share_batch_norms

torch.set_num_threads(1)
ROWS = int(sys.argv[1])
generator = torch.Generator().manual_seed(0)
x_BCHW = torch.rand(ROWS, 1, 16, 16, generator=generator)
embedder = Embedder.create(ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=8), ImagePolicy(16, 1), seed=0)


def gradients(network, pictures, gather):
    network.zero_grad()
    embedding_BD = gather(network(pictures))
    (embedding_BD @ embedding_BD.T).square().mean().backward()
    return network


# The reference is float64: torch's own batch norm rounds more than the two processes differ.
single = Embedder.create(embedder.config, ImagePolicy(16, 1), seed=0).double().train()
wide = torch.nn.functional.normalize(single.head(single.backbone((x_BCHW.double() - single.mean) / single.std)), dim=1)
(wide @ wide.T).square().mean().backward()
with processes(torch.device("cpu")) as peers:
    assert peers.launched
    share_batch_norms(embedder)
    embedder.train()
    gradients(embedder, x_BCHW[peers.share(ROWS)], lambda own: peers.gather_rows(own, ROWS))
    peers.sum_gradients(embedder, ROWS)
    for (name, one), two in zip(single.named_parameters(), embedder.parameters(), strict=True):
        error = float((one.grad - two.grad.double()).norm() / one.grad.norm())
        assert error < 2e-5, (name, error)
    for (name, one), two in zip(single.named_buffers(), embedder.buffers(), strict=True):
        torch.testing.assert_close(one.float(), two.float(), rtol=2e-5, atol=1e-6, msg=name)
    assert peers.gather(peers.rank) == list(range(peers.num_ranks))
    assert peers.from_first(peers.rank) == 0
    # In float64 once more: how far float32 rounds otherwise for ten rows than for twenty is the processor's affair.
    embedder.double()
    gradients(embedder, x_BCHW[peers.share(ROWS)].double(), lambda own: peers.gather_rows(own, ROWS))
    peers.sum_gradients(embedder, ROWS)
    gradient = {name: parameter.grad for name, parameter in embedder.named_parameters()}
    torch.save(gradient, f"{sys.argv[2]}-{peers.rank}-of-{peers.num_ranks}.pt")
"""

RUN = """
import sys
from pathlib import Path
import numpy as np
import torch
from mohs.settings.config import DataConfig, MemoryConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.table import Table
from mohs.model.embedder import Embedder
from mohs.training.loop import Folder, fit
from mohs.training.negative_bank import NegativeBank
from mohs.training.processes import Processes, processes

torch.set_num_threads(1)
rng = np.random.default_rng(0)
pictures = rng.integers(60, 200, (20, 1, 16, 16, 1)) + rng.integers(-30, 30, (20, 3, 16, 16, 1))
pictures[1] = pictures[0]  # two classes of equal pictures: their pairs leave the loss in every process
pictures[3] = pictures[2]
labels = np.repeat([f"c{i:02d}" for i in range(20)], 3)
table = Table(tuple(f"{i}.png" for i in range(60)), labels, np.full(60, "sample"), np.full(60, ""))
dataset = Dataset(table, pictures.reshape(60, 16, 16, 1).astype(np.uint8))
# Without batch norm: its sums over processes are more exact than torch's, which would be the difference seen.
config = RunConfig(
    data=DataConfig(size=16, channels=1),
    model=ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8, batch_norm=False),
    training=TrainingConfig(
        num_triplets=80, batch_triplets=9, num_segments=4, device="cpu", overlap=True, learning_rate=1e-3
    ),
    memory=MemoryConfig(num_negatives=20, from_progress=0.25),
)


banks = []
usual = NegativeBank.__init__


def kept(bank, *given, **named):
    usual(bank, *given, **named)
    banks.append(bank)


NegativeBank.__init__ = kept


def run(peers, folder):
    embedder, events = Embedder.create(config.model, ImagePolicy(16, 1), seed=0), []
    folder.mkdir()
    fit(embedder, dataset, config, listeners=(events.append,), folder=Folder(folder, None), peers=peers)
    steps = [event for event in events if hasattr(event, "loss")]
    told = [event.loss for event in steps], [event.num_kept_apart for event in steps]
    torch.save([embedder.state_dict(), *told, banks[-1].state()], folder / "end.pt")


with processes(torch.device("cpu")) as peers:
    if peers.is_first:
        run(Processes(), Path(sys.argv[1]) / "alone")
    peers.from_first(None)
    run(peers, Path(sys.argv[1]) / f"rank{peers.rank}")
"""


STOPPED = """
import sys
from pathlib import Path
import numpy as np
import torch
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.table import Table
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.held_out import HeldOut
from mohs.training.loop import fit
from mohs.training.processes import processes

torch.set_num_threads(1)
pictures = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 1)).astype(np.uint8)
labels = np.repeat([f"c{i}" for i in range(20)], 3)
table = Table(tuple(map(str, range(60))), labels, np.full(60, "sample"), np.full(60, ""))
config = RunConfig(
    data=DataConfig(size=16, channels=1),
    model=ModelConfig(widths=(4, 8), hidden_dim=0, embedding_dim=8),
    training=TrainingConfig(num_triplets=80, batch_triplets=10, num_segments=8, device="cpu", stop_after=2),
)
found = iter([2, 6, 5, 4])
with processes(torch.device("cpu")) as peers:
    HeldOut.hits = lambda *_: np.arange(10) < next(found)
    if not peers.is_first:  # the first one alone measures, and tells the others
        HeldOut.hits = None
    embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)
    held_out = HeldOut(pictures[:10], pictures[10:20], matches_trained=False, of="validation")
    result = fit(embedder, Dataset(table, pictures), config, peers=peers, held_out=held_out)
    ended = (result.num_triplets, result.best_triplets, result.best_recall, result.stopped_early)
    torch.save([embedder.state_dict(), ended], Path(sys.argv[1]) / f"rank{peers.rank}.pt")
"""


def run_together(server: Any, num_ranks: int, code: str, folder: Path, *arguments: object) -> None:
    """Run a script in so many processes; that torchrun begins them too, the guide to many machines shows."""
    (folder / "script.py").write_text(code)
    ranks = server.begin_ranks(num_ranks, ["script.py", *map(str, arguments)], folder)
    said = [process.communicate(timeout=300)[1][-3000:] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * num_ranks, said


def test_all_processes_stop_early_together_with_the_same_weights(tmp_path: Path, fork_server: Any) -> None:
    run_together(fork_server, 2, STOPPED, tmp_path, tmp_path)
    (first, ended), (second, ended_too) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert ended == ended_too == (30, 10, 0.6, True)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_one_process_and_two_have_the_gradient_of_the_whole_batch(tmp_path: Path, fork_server: Any) -> None:
    num_rows = 21  # not the same number for each
    for num_ranks in (1, 2):
        run_together(fork_server, num_ranks, SCRIPT, tmp_path, num_rows, tmp_path / "rank")
    alone, *divided = (torch.load(tmp_path / f"rank-{name}.pt") for name in ("0-of-1", "0-of-2", "1-of-2"))
    for gradient in divided:
        for name, one in alone.items():
            error = float((one - gradient[name]).norm() / one.norm())
            assert error < 1e-12, (name, error)


def test_a_run_of_two_processes_with_overlap_and_memory_is_that_of_one(tmp_path: Path, fork_server: Any) -> None:
    run_together(fork_server, 2, RUN, tmp_path, tmp_path)
    names = ("alone", "rank0", "rank1")
    (one, losses, apart, _), (first, losses_of_first, apart_of_first, bank), (second, *_, bank_of_second) = (
        torch.load(tmp_path / name / "end.pt") for name in names
    )
    # The first plan is that of one process, so its batches are; later ones follow the last digits of the network.
    assert apart_of_first[:3] == apart[:3]
    assert sum(apart) > 0
    plans = [[file.read_bytes() for file in sorted((tmp_path / name / "plans").iterdir())] for name in names[:2]]
    assert plans[0][0] == plans[1][0]  # later ones are by networks that differ in their last digits
    assert len(plans[0]) == len(plans[1]) == 4
    assert losses_of_first == pytest.approx(losses, rel=1e-3)
    # The bank holds what all processes have shown, in the same places, and its encoder is one network.
    assert int((bank["items"] >= 0).sum()) > 40
    encoders = bank.pop("encoder"), bank_of_second.pop("encoder")
    for of_first, of_second in ((bank, bank_of_second), encoders):
        for name, value in of_first.items():
            assert torch.equal(value, of_second[name]), name
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        torch.testing.assert_close(value, one[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("num_rows", range(2, 40))
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_shares_are_the_batch_in_order_and_never_of_one_row(num_rows: int, num_ranks: int) -> None:
    shares = [Processes(rank, num_ranks).share(num_rows) for rank in range(num_ranks)]
    if num_rows < 2 * num_ranks:
        assert shares == [slice(0, num_rows)] * num_ranks
        return
    assert [i for share in shares for i in range(share.start, share.stop)] == list(range(num_rows))
    lengths = [share.stop - share.start for share in shares]
    assert min(lengths) >= 2
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(("local_rank", "failures", "code"), [("1", [3, None], 3), ("1", [None, None], None)])
def test_the_first_process_of_a_machine_reads_first(
    monkeypatch: pytest.MonkeyPatch, local_rank: str, failures: list[int | None], code: int | None
) -> None:
    done: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    peers = Processes(1, 2)
    monkeypatch.setattr(peers, "gather", lambda _: done.append("waited") or failures)
    if code is None:
        assert peers.first_here_first(lambda: done.append("read") or len(done)) == 2
        assert done == ["waited", "read"]
        monkeypatch.setenv("LOCAL_RANK", "0")  # the first of another machine
        peers.first_here_first(lambda: done.append("read") or len(done))
        assert done == ["waited", "read", "read", "waited"]
    else:
        with pytest.raises(SystemExit) as stop:
            peers.first_here_first(lambda: done.append("read"))
        assert stop.value.code == code
        assert done == ["waited"]


def test_who_fails_to_read_says_so_after_the_others_have_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setenv("LOCAL_RANK", "0")
    peers = Processes(0, 2)
    monkeypatch.setattr(peers, "gather", lambda own: heard.append(own) or [own, None])

    def read() -> None:
        raise InputError("shop.csv: no such file")

    with pytest.raises(InputError, match="no such file"):
        peers.first_here_first(read)
    assert heard == [2]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretend to be the second of three processes that have met, on a machine of two GPUs; return what is chosen."""
    chosen: list[int] = []
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 1, 3)]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def choose(number: int) -> None:
        chosen.append(number)
        raise KeyboardInterrupt  # what comes next needs a GPU

    monkeypatch.setattr(torch.cuda, "set_device", choose)
    return chosen


def test_each_process_has_its_own_gpu(two_gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(KeyboardInterrupt), processes(torch.device("cuda")):
        pass
    assert two_gpus == [1]


def test_more_processes_than_gpus_are_refused(two_gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError) as caught, processes(torch.device("cuda")):
        pass
    assert str(caught.value) == (
        "LOCAL_RANK: '2' is not a GPU of this machine, which has 2; start one process for each GPU with torchrun "
        "(--nproc-per-node), or use --device cpu"
    )
    assert two_gpus == []
