"""The command line: one thin module per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from audio_pipeline._version import __version__
from audio_pipeline.app.text import shortened, visible
from audio_pipeline.exceptions import CrepitusError

# The module of each command, and what `crepitus --help` shows without importing any of them (the
# start-up budget is 0.2 s).
COMMANDS: dict[str, tuple[str, str]] = {
    "analyze": ("analyze", "Hear what is in recordings; with answers, recommend what to do."),
    "record": ("record", "Record a twist near a microphone and analyse it."),
    "listen": ("record", "Report sounds live, as they happen."),
    "triage": ("triage", "Answer questions about symptoms; no recording needed."),
    "questions": ("triage", "Print the questionnaire, or an empty answers file."),
    "why": ("triage", "Say why a back cracks when it twists, with sources."),
    "batch": ("analyze", "Classify many recordings; resumable."),
    "export": ("analyze", "Write the results of a batch in other formats."),
    "history": ("history", "The results that you kept on this machine."),
    "compare": ("history", "Two takes of one session side by side."),
    "serve": ("study", "Open the page to record on, and the HTTP API."),
    "study": ("study", "Run a study: consent, protocol, people, archive."),
    "train": ("train", "Train a model on labelled recordings."),
    "evaluate": ("train", "Measure a model on labelled recordings."),
    "benchmark": ("train", "Judge estimators on the same splits, and rank them."),
    "review": ("study", "Label sounds by ear, one key each."),
    "segments": ("analyze", "Cut out every sound found, with label tracks to correct."),
    "features": ("analyze", "Write the feature table of recordings."),
    "synthesize": ("train", "Make a labelled synthetic dataset."),
    "takes": ("train", "Put labelled clips into recordings as a person makes them."),
    "devices": ("record", "List the microphones."),
    "check": ("record", "Is this machine ready: sound card, codecs, model?"),
}


class LazyGroup(click.Group):
    """A group whose commands live in ``audio_pipeline.app.cli`` as ``<name>_command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command, or return None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        home, _ = COMMANDS[cmd_name]
        module = importlib.import_module(f"audio_pipeline.app.cli.{home}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: crepitus analyze twist.m4a",
)
@click.version_option(__version__, prog_name="crepitus")
def app() -> None:
    """Why does my back crack when I twist, and should I do something about it?

    Crepitus listens to a recording of the twist, tells single pops from grinding sounds, and
    combines that with your answers about symptoms. It cannot examine anyone.
    """  # noqa: D400


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors are one line on standard error, never a traceback."""
    # Before any numeric library is loaded: on small arrays their threads only hinder each other.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # The allocator of pyarrow (Parquet) would start a thread, and a process with threads is not
    # forked into workers.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    if not any(isinstance(finder, _WithoutPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutPandas())
    _open_standard_streams()
    warnings.showwarning = _warn_once()
    # joblib starts workers anew that have grown: nothing a person can do, and nothing is lost.
    warnings.filterwarnings("ignore", "A worker stopped")
    code = _flush(_run(arguments))
    if arguments is None and any(one.name == "loading the model" for one in threading.enumerate()):
        # Someone changed their mind early. Nobody waits for that thread, and libraries that are
        # taken down in the middle of their work would complain of what they still hold.
        os._exit(code)
    sys.exit(code)


def _warn_once() -> Callable[..., None]:
    """Return what says a library's warning in one line, once, without its line of code."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            said.add(text)
            _complain(text, 0)

    return show


class _WithoutPandas:
    """Keeps scikit-learn from loading pandas only to know whether it is there.

    That takes a sixth of a start. Whoever asks for pandas after that gets it.
    """

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Refuse pandas while ``sklearn.utils.fixes`` is being loaded."""
        fixes = sys.modules.get("sklearn.utils.fixes") if name == "pandas" else None
        if fixes is not None and not hasattr(fixes, "np_version"):
            raise ModuleNotFoundError("not needed to hear anything", name=name)


def _run(arguments: list[str] | None) -> int:
    """Run the command line and return its exit code."""
    for argument in arguments or ():
        if not _can_be_a_name(argument):
            return _complain(f"{argument}: no name can hold such a character", 2)
    try:
        code = app.main(args=arguments, prog_name="crepitus", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show(file=sys.stderr)  # `crepitus` alone: all that it can do
        return 2
    except click.ClickException as error:
        return _complain(_one_line(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        with suppress(OSError):
            print("Stopped.", file=sys.stderr)
        return 130
    except CrepitusError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` does
        return 1
    except OSError as error:  # what meets a full disk, or a drive that is gone, while it writes
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return _complain(f"{where}{error.strerror or error}; the work cannot go on", 1)
    except MemoryError:
        return _complain("there is not enough memory: close other programs, or give less", 1)
    except RecursionError:
        return _complain("what was given is nested too deeply", 1)
    except Exception as error:
        if os.environ.get("CREPITUS_TRACEBACK"):
            raise
        return _complain(
            f"this should not happen: {type(error).__name__}: {str(error).partition(chr(10))[0]} "
            "(set CREPITUS_TRACEBACK=1 and run again to see where; please report it)",
            1,
        )


def _can_be_a_name(text: str) -> bool:
    """Tell whether text can stand in a path: no NUL, and no halves of characters."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _complain(text: str, code: int) -> int:
    """Say on one line of standard error what is wrong, and return the exit code."""
    with suppress(OSError):  # nobody can be told
        print(f"crepitus: {shortened(visible(text))}", file=sys.stderr)
    return code


def _open_standard_streams() -> None:
    """Give a program that was started without standard streams, as services are, empty ones.

    Otherwise the first file that is opened takes the place of a stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character the terminal lacks ends nothing
            stream.reconfigure(errors="backslashreplace")


def _flush(code: int) -> int:
    """Write what is held back, and return the exit code: 1 when it cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            if code == 0:
                code = 1
                if not isinstance(error, BrokenPipeError):
                    _complain(f"cannot write the result: {error}", 1)
            with suppress(OSError, ValueError):  # what is left must not fail again at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _one_line(error: click.ClickException) -> str:
    """Say what is wrong with the command line, and where its help is."""
    text = visible(" ".join(error.format_message().split())).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text} (see {context.command_path} --help)" if context else text
