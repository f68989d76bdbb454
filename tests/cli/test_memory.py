import sys

import pytest

from mohs.cli import console as memory
from mohs.cli.console import free_bytes, in_bytes, require_memory
from mohs.errors import ResourceError

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    9000000 kB\n"
KB = 1024


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 9_000_000 * KB),
        # A container of version 2 that is seen from inside: its own group is the root.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "4000000\n",
                "sys/fs/cgroup/memory.current": "3000000\n",
                "sys/fs/cgroup/memory.stat": "anon 1\nactive_file 200000\ninactive_file 50000\n",
            },
            1_250_000,
        ),
        # A group of the host.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/memory.max": "4000000\n",
                "sys/fs/cgroup/user/job/memory.current": "3999999\n",
            },
            1,
        ),
        # No limit.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "3000000\n",
            },
            9_000_000 * KB,
        ),
        # Version 1; the path is the host's, the folder the container's.
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "12:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100\n",
            },
            0,
        ),
    ],
    ids=["nothing known", "machine", "container", "group", "no limit", "version 1"],
)
def test_the_least_of_machine_and_containers(files, expected, tmp_path):
    write(tmp_path, files)
    assert free_bytes(tmp_path) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")
def test_something_is_free_here():
    assert 10**7 < free_bytes() < 10**14


def test_more_than_is_free_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2 * 10**9)
    require_memory(2 * 10**9, "mining", "use less")
    with pytest.raises(ResourceError) as caught:
        require_memory(45_600_000_000, "mining", "use less")
    assert str(caught.value) == "memory: mining takes about 45.6 GB, and 2.0 GB are free; use less"
    assert caught.value.exit_code == 4
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    require_memory(10**18, "mining", "use less")


def test_bytes_for_people():
    assert [in_bytes(n) for n in (0, 999_600_000, 10**9, 1_234_000_000_000)] == [
        "0 MB",
        "1,000 MB",
        "1.0 GB",
        "1,234.0 GB",
    ]
