"""The command line: one thin module per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from audio_pipeline._version import __version__
from audio_pipeline.app.text import visible
from audio_pipeline.exceptions import CrepitusError

# Shown by `crepitus --help` without importing any command (the start-up budget is 0.2 s).
COMMANDS: dict[str, str] = {
    "analyze": "Hear what is in recordings; with answers, recommend what to do.",
    "record": "Record a twist near a microphone and analyse it.",
    "listen": "Report sounds live, as they happen.",
    "triage": "Answer questions about symptoms; no recording needed.",
    "questions": "Print the questionnaire, or an empty answers file.",
    "why": "Say why a back cracks when it twists, with sources.",
    "batch": "Classify many recordings; resumable.",
    "export": "Write the results of a batch in other formats.",
    "serve": "Open the page to record on, and the HTTP API.",
    "train": "Train a model on labelled recordings.",
    "evaluate": "Measure a model on labelled recordings.",
    "review": "Label sounds by ear, one key each.",
    "segments": "Cut out every sound found, with label tracks to correct.",
    "features": "Write the feature table of recordings.",
    "synthesize": "Make a labelled synthetic dataset.",
    "takes": "Put labelled clips into recordings as a person makes them.",
    "devices": "List the microphones.",
    "check": "Is this machine ready: sound card, codecs, model?",
}


class LazyGroup(click.Group):
    """A group whose commands live in ``audio_pipeline.app.cli.<name>`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command, or return None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"audio_pipeline.app.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


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
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        # Before any numeric library is loaded: on small arrays their threads only hinder.
        os.environ.setdefault(name, "1")
    try:
        code = app.main(args=arguments, prog_name="crepitus", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show(file=sys.stderr)  # `crepitus` alone: all that it can do
        code = 2
    except click.ClickException as error:
        print(f"crepitus: {_one_line(error)}", file=sys.stderr)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        code = 130
    except CrepitusError as error:
        print(f"crepitus: {visible(str(error))}", file=sys.stderr)
        code = error.exit_code
    except Exception as error:
        if os.environ.get("CREPITUS_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        print(
            f"crepitus: this should not happen: {what} "
            "(set CREPITUS_TRACEBACK=1 and run again to see where; please report it)",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: click.ClickException) -> str:
    """Say what is wrong with the command line, and where its help is."""
    text = visible(" ".join(error.format_message().split())).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text} (see {context.command_path} --help)" if context else text
