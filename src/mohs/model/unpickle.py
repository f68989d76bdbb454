"""A process of its own that reads weights from a pickle and writes them as safetensors: python -m mohs.model.unpickle.

A pickle can run code. torch's `weights_only` reads tensors and plain containers alone; what it costs is bounded here.
"""

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["main"]

_INSIDE = ("state_dict", "state_dict_ema", "model_state_dict", "model", "network")


def main(file: str, out: str, memory_bytes: int) -> str:
    """Write the tensors of a file as safetensors, their names in order as metadata; return what is wrong, or ""."""
    import torch
    from safetensors.torch import save_file

    _limit_memory(memory_bytes)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        tensors = _tensors(found)
        if not tensors:
            return "holds no tensors by name"
        own = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        save_file(own, out, metadata={"names": json.dumps(list(own))})
    except MemoryError:
        return f"takes more than {memory_bytes:,} bytes of memory"
    except Exception as error:  # unpickling raises almost anything
        reason = (str(error).strip().splitlines() or [""])[0]
        if "alloc" in reason or "memory" in reason:
            return f"takes more than {memory_bytes:,} bytes of memory"
        if "Weights only load failed" in reason:
            return "holds more than weights, which could run code"
        return f"cannot be read ({reason[:120] or type(error).__name__})"
    return ""


def _limit_memory(memory_bytes: int) -> None:
    """Allow this process so much more memory than it has now; where the system has no such limit, there is none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        status = Path("/proc/self/status").read_text(encoding="utf-8")
        found = re.search(r"VmData:\s+(\d+) kB", status)
        if found is not None:
            limit = int(found.group(1)) * 1024 + memory_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _tensors(found: Any) -> Mapping[str, Any]:
    """Return the tensors by name: of a state dict, or of one within a checkpoint; "module." before names is cut."""
    import torch

    if not isinstance(found, Mapping):
        return {}
    own = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not own:
        inside = (found[name] for name in _INSIDE if isinstance(found.get(name), Mapping))
        return next((tensors for each in inside if (tensors := _tensors(each))), {})
    if all(name.startswith("module.") for name in own):
        own = {name.removeprefix("module."): value for name, value in own.items()}
    return own


if __name__ == "__main__":
    problem = main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(problem)
    sys.exit(1 if problem else 0)
