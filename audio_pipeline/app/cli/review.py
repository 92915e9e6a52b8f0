"""``crepitus review``: label sounds by ear, one key each."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.cli.options import allow_outside_option
from audio_pipeline.app.text import show, visible


@click.command(
    epilog="Example: crepitus review out; "
    "then: crepitus train out/review.csv --allow-outside -o model"
)
@click.argument("source", metavar="DATASET|OUT", type=click.Path(path_type=Path))
@click.option("--model", metavar="DIR", type=click.Path(path_type=Path), help="Model folder.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8001,
    show_default=True,
    help="0 takes any free one.",
)
@allow_outside_option
def command(source: Path, model: Path | None, port: int, allow_outside: bool) -> None:
    """Label sounds by ear, one key each, the most informative first.

    OUT is the folder of a batch, DATASET what crepitus train reads. A page opens on this machine
    alone. Every label is saved as it is made, in review.csv, which crepitus train reads.
    """
    from audio_pipeline.exceptions import CrepitusError

    try:
        from audio_pipeline.app.server.app import LOOPBACK
        from audio_pipeline.app.server.connections import listen, make_server, run_server
        from audio_pipeline.app.server.review import create_review_app
    except ImportError as error:
        raise CrepitusError(
            f'the page needs {error.name}; install it with: pip install "crepitus[serve]"'
        ) from None
    from audio_pipeline.app.server.guards import ServerSettings
    from audio_pipeline.app.server.review import open_queue

    queue = open_queue(source, model, allow_outside=allow_outside)
    listener = listen(LOOPBACK, port)
    server = make_server(create_review_app(queue), ServerSettings(), listener)
    waiting = sum(1 for _ in queue.open_items())
    manifest = visible(str(queue.manifest))
    show(f"{waiting} of {len(queue.items)} sounds to label; labels go to {manifest}")
    show(f"The page is at http://{LOOPBACK}:{listener.getsockname()[1]}/  (Ctrl-C stops it)")
    run_server(server, listener)
