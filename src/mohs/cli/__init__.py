"""The command line. Heavy packages are imported inside the commands."""

import contextlib
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn, TextIO, cast

import typer

from mohs import __version__
from mohs.cli import (
    check,
    classify,
    clean,
    compare,
    demo,
    doctor,
    embed,
    evaluate,
    export,
    fix,
    glyphs,
    import_weights,
    index,
    mine,
    report,
    search,
    serve,
    train,
)  # fmt: skip
from mohs.cli.console import is_first
from mohs.errors import DataWarning, MohsError
from mohs.shown import printable

__all__ = ["main"]

app = typer.Typer(
    name="mohs",
    help="Similarity learning for many classes with one or two pictures each.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# The base of typer's own errors: click's in older versions of typer, a class of its own in newer ones.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[2])


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"mohs {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):
            print(context.get_help())
        raise typer.Exit(2)


for _command in (
    demo.demo, check.check, clean.clean, fix.fix, glyphs.glyphs, import_weights.import_weights, mine.mine,
    train.train, evaluate.evaluate, report.report, compare.compare, doctor.doctor, embed.embed, export.export,
    search.search, serve.serve,
):  # fmt: skip
    app.command()(_command)
app.add_typer(classify.classify, name="classify")
app.add_typer(index.index, name="index")


def _say_warnings() -> None:
    """Have warnings said in one line each, once: which line of code gives one is nothing to a user."""
    said: set[str] = set()
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, DataWarning):
            usual(message, category, filename, lineno, file, line)
        elif str(message) not in said and is_first():
            said.add(str(message))
            print(printable(f"warning: {message}"), file=sys.stderr)

    warnings.showwarning = show
    warnings.formatwarning = lambda message, *_, **__: printable(f"warning: {message}\n")
    warnings.filterwarnings("always", category=DataWarning)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 3 bad images, 4 resource, 5 training, 130/143 signals."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that temporary files are removed
    # OpenMP's threads spin while they wait for each other. Beside one busy program a demo on two cores took 35 s so and
    # 24 s with threads that sleep, and several programs make it far worse; alone, sleeping costs 6%. It must be said
    # before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What torch's C++ says of a lost connection is a page of addresses; Mohs says which process is gone.
    if "RANK" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # A terminal that has no such letters still shows the name of a file, as Python writes it ("caf\\xe9").
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() not in ("utf-8", "utf8"):
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        _say_warnings()
        code, lines = _run(sys.argv[1:] if arguments is None else list(arguments))
    for line in lines:
        print(printable(line), file=sys.stderr)
    sys.exit(code)


def _run(arguments: list[str]) -> tuple[int, Sequence[str]]:
    """Run a command and return its exit code and what is to be said on stderr."""
    try:
        # Not app(): it answers some errors itself, in more than one line.
        command = typer.main.get_command(app)
        if "_MOHS_COMPLETE" in os.environ:  # a shell asks what may come next
            command.main(arguments, prog_name="mohs")
        with command.make_context("mohs", arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code, ()
    except _UsageError as error:
        return 2, (_usage_line(error),)
    except (typer.Abort, KeyboardInterrupt) as stop:
        return 130, ("mohs: interrupted", *_notes(stop))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1, _notes(stop)
    except MohsError as error:
        return error.exit_code, [f"mohs: {problem}" for problem in error.problems]
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        text = ascii(error.object[max(0, error.start - 40) : error.end + 40])
        return 2, (f"mohs: {text}: a name that is not UTF-8; rename the file or folder, or link to it by another name",)
    except BrokenPipeError:
        # The reader of stdout left (as 'head' does): not an error, and nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, ()
    except OSError as error:
        return _explain_os_error(error)
    except (MemoryError, RuntimeError, ImportError) as error:
        # torch has no error of its own for a CPU's memory, nor has what loads a package.
        if not isinstance(error, MemoryError) and not any(text in str(error).lower() for text in _OUT_OF_MEMORY):
            raise
        return 4, ("mohs: out of memory; use fewer or smaller pictures (--size), smaller batches, or a larger machine",)
    return 0, ()


def _notes(stop: BaseException) -> list[str]:
    """Return what was added on the way to what ends a command: how to go on."""
    return [f"mohs: {note}" for note in getattr(stop, "__notes__", ())]


_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to map segment",
    "can't start new thread",
)


def _usage_line(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "mohs"
    text = getattr(error, "format_message", error.__str__)()
    if isinstance(error.__cause__, ValueError) and hasattr(error.__cause__, "errors"):
        # Newer versions of typer let pydantic read the values, and leave out the value that was wrong.
        value = error.__cause__.errors()[0]["input"]
        text = text.replace("Invalid value for", f"Invalid value {value!r} for", 1)
    return f"{name}: {' '.join(text.split()).rstrip('.')}; see '{name} --help'"


def _explain_os_error(error: OSError) -> tuple[int, Sequence[str]]:
    """Return exit code and message for a path that cannot be used, or a resource that is used up."""
    from mohs.artefacts import DISK_FULL

    path = error.filename2 or error.filename
    place = "" if path is None else f"{os.fsdecode(path)}: "
    reason = error.strerror or str(error)
    if error.errno in DISK_FULL:
        return 4, (f"mohs: {place}{reason}; free some space, or write to another disk",)
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return 4, (f"mohs: {place}{reason}; close other programs, or raise the limit",)
    return 2, (f"mohs: {place}{reason}; check the path and its permissions",)
