import importlib
import inspect
import os
import pkgutil
import resource
import subprocess
import sys

import pytest

import mohs

HEAVY = ("torch", "numba", "matplotlib", "torchvision", "timm", "sklearn", "faiss")
HELP_CPU_LIMIT_S = 0.5


def imported_by(*command: str) -> set[str]:
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "command", [("-c", "import mohs"), ("-m", "mohs", "--help"), ("-m", "mohs", "train", "--help")], ids=" ".join
)
def test_importing_and_asking_for_help_load_nothing_heavy(command):
    imported = imported_by(*command)
    assert "mohs" in imported
    assert not imported & set(HEAVY)


def test_help_costs_less_than_half_a_second_of_cpu():
    def cpu_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "mohs", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    cpu_s()  # the first call may compile to bytecode
    assert min(cpu_s() for _ in range(3)) < HELP_CPU_LIMIT_S


def test_every_public_name_is_there_once_and_documented():
    assert len(set(mohs.__all__)) == len(mohs.__all__)
    for name in mohs.__all__:
        assert inspect.getdoc(getattr(mohs, name)), name
        assert name in dir(mohs)


def test_a_plan_drives_another_loop_by_public_names():
    plan = mohs.TripletPlan.of([0, 2], [1, 3], [2, 0])
    assert list(mohs.PlanSampler(plan, 2)) == [[0, 2, 1, 3, 2, 0]]
    assert callable(mohs.PlanMiner())


def test_public_names_stay_what_they_are_when_every_module_is_imported():
    code = """
import importlib, pkgutil, types, mohs
for info in pkgutil.walk_packages(mohs.__path__, "mohs."):
    if not info.name.endswith("__main__"):
        importlib.import_module(info.name)
modules = [name for name in mohs.__all__ if isinstance(getattr(mohs, name), types.ModuleType)]
assert modules == ["curves"], modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mohs' has no attribute 'nonsense'"):
        _ = mohs.nonsense


def modules() -> list[str]:
    return [info.name for info in pkgutil.walk_packages(mohs.__path__, "mohs.")]


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_modules_and_what_they_offer_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    offered = [(each, getattr(module, each)) for each in getattr(module, "__all__", ())]
    for each, value in offered:
        # An alias of a type has no docstring of its own, nor has a constant.
        if inspect.isfunction(value) or (inspect.isclass(value) and value.__module__ == name):
            assert value.__doc__, f"{name}.{each}"
            # dataclass writes a docstring, "Name(field: type)", for a class that has none.
            assert not value.__doc__.startswith(f"{each}("), f"{name}.{each}"


def test_python_m_mohs_is_the_command():
    done = subprocess.run([sys.executable, "-m", "mohs", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mohs {mohs.__version__}\n"
    assert done.stderr == ""


def test_output_reaches_a_terminal_of_another_encoding(picture_set):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for command in (["--help"], ["check", str(picture_set)], ["check", str(picture_set), "--json"]):
        done = subprocess.run([sys.executable, "-m", "mohs", *command], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr


def test_dir_shows_what_is_public_and_nothing_else():
    assert dir(mohs) == sorted(["__version__", *mohs.__all__])


def test_what_a_session_shows_is_one_line(picture_set):
    table = mohs.read_table(picture_set / "images.csv")
    assert repr(table) == f"Table({table.source!r}: 36 items of 12 classes)"
    dataset = mohs.open_dataset(picture_set / "images.csv", policy=mohs.ImagePolicy(size=8, channels=1))
    assert repr(dataset) == f"Dataset({table!r}, pictures (8, 8, 1))"
    plan = mohs.TripletPlan.of([0, 2], [1, 3], [2, 0], hardness=[0.25, 1.0])
    assert repr(plan) == "TripletPlan(2 triplets, hardness 0.25 to 1)"
    run = mohs.Run(picture_set, mohs.RunConfig(seed=3))
    assert repr(run) == f"Run('{picture_set}': infonce on 'glyphs', seed 3)"
    finding = mohs.Finding("hubs", "note", "", "", "")
    assert repr(mohs.Diagnosis((finding,), (), {})) == "Diagnosis(1 note: good to know; look first at hubs)"
