"""Commands with people: serve, the page to record on; review, to label; study, its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audio_pipeline.app.cli.options import (
    FiniteRange,
    allow_outside_option,
    json_option,
    model_options,
    output_folder,
    overwrite_option,
    port_option,
    region_option,
)
from audio_pipeline.app.outputs import check_output, read_table, replaced
from audio_pipeline.app.text import show, show_json, steps, visible
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.app.study import Study
    from audio_pipeline.model.metrics import Ints

CERTIFICATE_WORDS = """\
The phone's browser will warn that the connection is not private. That is expected: no company
has signed for this computer. It is your own network, and the page is encrypted all the same.
Choose "Advanced" or "Show details", then go on to the page. To be sure that it is this computer,
compare the certificate's SHA-256 fingerprint. It is kept, so the same address warns only once:
"""


@click.command(epilog="Example: crepitus serve --phone")
@click.option("--host", default=None, help="Address to listen on [default: 127.0.0.1].")
@port_option(8000)
@click.option("--https", is_flag=True, help="Encrypt, with a certificate of your own.")
@click.option(
    "--phone",
    is_flag=True,
    help="Let a phone on the same network in: HTTPS, a code to scan, a one-time secret.",
)
@model_options
@click.option(
    "--history",
    is_flag=True,
    help="Let the page keep results on this machine; whoever uses the page can see them.",
)
@click.option(
    "--study",
    "study_folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Record people for a study: the page asks for consent and writes into its folder.",
)
@region_option
@json_option
def serve_command(
    host: str | None,
    port: int,
    https: bool,
    phone: bool,
    trusted: bool,
    model: Path | None,
    history: bool,
    study_folder: Path | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Open the page to record on, and the HTTP API.

    By default only this machine can reach it. With --phone it listens on the local network and
    prints a code: scan it with the phone's camera. Nothing is logged, and nothing is stored
    unless you say --history and then choose to keep a result. With --study the page is that of a
    study: it keeps what people say yes to, in the study's folder.
    """
    from audio_pipeline.app.history import History
    from audio_pipeline.app.study import open_study
    from audio_pipeline.triage.messages import default_region, load_catalogue

    study = open_study(study_folder) if study_folder is not None else None
    region = region or (study.settings.region if study is not None else default_region())
    load_catalogue(region)  # an unknown region is refused before any work
    with _page_installed():
        from audio_pipeline.app.server.app import LOOPBACK, Service
        from audio_pipeline.app.server.connections import default_path
        from audio_pipeline.app.server.guards import ServerSettings
    from audio_pipeline.model.classifier import load_classifier

    load_classifier(model, trusted=trusted)  # so is a model that is missing or altered

    host = host or ("0.0.0.0" if phone else LOOPBACK)  # noqa: S104
    service = Service(
        host,
        port,
        https or phone,
        default_path(),
        region,
        model,
        ServerSettings(trust_model=trusted),
        history=History() if history else None,
        study=study,
        on_paired=lambda address: (
            show(f"The next device: {address}", err=True) if as_json else _show(address, True)
        ),
    )
    if as_json:
        found = service.certificate
        show_json(
            {
                "address": service.address,
                "one_time": service.pairing is not None,
                "fingerprint": None if found is None else found.fingerprint,
            }
        )
    elif service.pairing is None:
        click.echo(f"Crepitus is at {service.address}  (Ctrl-C stops it)")
    else:
        _show(service.address, False)
        if service.certificate is not None:
            click.echo(CERTIFICATE_WORDS + service.certificate.fingerprint)
        click.echo("Ctrl-C stops it.")
    if service.pairing is not None and service.certificate is None:
        click.echo(
            "Without --https the connection is not encrypted and no phone gives this page its"
            " microphone. Use --phone instead.",
            err=True,
        )
    service.run()


@contextmanager
def _page_installed() -> Iterator[None]:
    """Say in one line what a page needs that is not installed."""
    try:
        yield
    except ImportError as error:
        raise CrepitusError(
            f'the page needs {error.name}; install it with: pip install "crepitus[serve]"'
        ) from None


def _show(address: str, again: bool) -> None:
    """Print the code to scan; each works for the first device that uses it."""
    if again:
        click.echo("A device is paired. To pair another one, scan this new code:")
    else:
        click.echo("Scan this with the phone, on the same network:")
    click.echo(qr_code(address, colour=sys.stdout.isatty()))
    click.echo(f"Crepitus is at {address}")


def qr_code(text: str, *, colour: bool) -> str:
    """Return a QR code as lines of half blocks, two rows of squares a line.

    ``colour``: black on white whatever the theme of the terminal, as some phones insist on.
    """
    import segno

    rows = [list(row) for row in segno.make(text, error="l").matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    start, end = ("\x1b[38;5;16;48;5;231m", "\x1b[0m") if colour else ("", "")
    blocks = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
    return "\n".join(
        start + "".join(blocks[bool(t), bool(b)] for t, b in zip(top, bottom, strict=True)) + end
        for top, bottom in zip(rows[::2], rows[1::2], strict=True)
    )


@click.command(epilog="Example: crepitus review out")
@click.argument("source", metavar="DATASET|OUT", type=click.Path(path_type=Path))
@model_options
@click.option("--rater", default="", metavar="NAME", help="Who labels; needed from a second on.")
@click.option("--adjudicate", is_flag=True, help="Decide together what raters differ about.")
@click.option("--agreement", is_flag=True, help="Say how far raters agree; open no page.")
@click.option("--unlabelled", is_flag=True, help="A folder whose folders are no labels.")
@port_option(8001)
@allow_outside_option
@json_option
def review_command(
    source: Path,
    rater: str,
    adjudicate: bool,
    agreement: bool,
    port: int,
    as_json: bool,
    **simple: Any,
) -> None:
    """Label sounds by ear, one key each, the most informative first.

    OUT is the folder of a batch, DATASET what crepitus train reads. A page opens on this machine
    alone. Every label is saved as it is made, in review.db, and in review.csv, which crepitus train
    reads. After every twenty the model is fitted again and the order follows; one sound in five is
    drawn at random and tells how good it is. A second rater hears exactly the sounds of the first.
    """
    from audio_pipeline.app.review import DECIDED, agreements

    if rater == DECIDED or (adjudicate and rater):
        raise click.UsageError(f"--adjudicate needs no rater, and none is called {DECIDED}")
    name = DECIDED if adjudicate else rater
    with _page_installed():
        from audio_pipeline.app.server.app import LOOPBACK
        from audio_pipeline.app.server.connections import listen, make_server, run_server
        from audio_pipeline.app.server.guards import ServerSettings
        from audio_pipeline.app.server.review import create_review_app, open_queue

    queue = open_queue(source, rater=name, **simple)
    if agreement:
        found = agreements(queue.store, {item.key: item.group for item in queue.items})
        show_json(found) if as_json else show(_agreement_text(found, queue.differing_file))
        return
    listener = listen(LOOPBACK, port)
    server = make_server(create_review_app(queue), ServerSettings(), listener)
    waiting = sum(1 for _ in queue.open_items())
    address = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
    if as_json:
        counts = {"sounds": len(queue.queue), "to_label": waiting}
        show_json({"address": address, **counts, "labels": str(queue.manifest)})
    else:
        manifest = visible(str(queue.manifest))
        show(f"{waiting} of {len(queue.queue)} sounds to label; labels go to {manifest}")
        show(f"The page is at {address}  (Ctrl-C stops it)")
    run_server(server, listener)


def _agreement_text(found: Mapping[str, Any], differing: Path) -> str:
    lines = [f"{name or 'first'}: {count} labels" for name, count in found["raters"].items()]
    for pair in found["pairs"]:
        names = " and ".join(name or "first" for name in pair["raters"])
        if pair["kappa"] is None:
            lines.append(f"{names}: {pair['count']} sounds in common, too few kinds to compare")
            continue
        interval = "" if pair["low"] is None else f" [{pair['low']:.2f}, {pair['high']:.2f}]"
        lines.append(
            f"{names}: {pair['count']} sounds in common, {100 * pair['agreed']:.0f} % named alike, "
            f"Cohen's kappa {pair['kappa']:.2f}{interval}"
        )
    if found["differing"]:
        lines.append(f"{found['differing']} sounds to decide: {visible(str(differing))}")
        lines.append("Next: crepitus review DATASET --adjudicate")
    return "\n".join(lines) or "nobody has labelled anything yet"


@click.group(epilog="Example: crepitus study check my_study")
def study_command() -> None:
    """Run a study: a folder with consent, protocol, takes and answers, in plain files.

    A person is a code drawn by lot; the key that says who is who lies beside the folder. People
    are recorded on the page of `crepitus serve --study FOLDER`.
    """


def _open(context: click.Context, parameter: click.Parameter, folder: Path) -> Study:
    """Read the study that a command names."""
    from audio_pipeline.app.study import open_study

    return open_study(folder)


_study = click.argument("study", metavar="FOLDER", type=click.Path(path_type=Path), callback=_open)


@study_command.command(
    epilog="Example: crepitus study new my_study --title Twists --owner 'A. Miller, Example Clinic'"
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--title", required=True, help="What the study is called.")
@click.option("--owner", required=True, help="Who asks, and how to reach them; people read it.")
@json_option
def new(folder: Path, title: str, owner: str, as_json: bool) -> None:
    """Make a new study in FOLDER: settings, consent text, empty tables, and how to go on."""
    from audio_pipeline.app.study import new_study

    study = new_study(folder, title, owner)
    if as_json:
        files = sorted(path.name for path in folder.iterdir())
        show_json({"folder": str(folder), "key": str(study.key), "files": files})
        return
    show(f"Made: {visible(str(folder))}. Read README.md and the consent text in it first.")
    show(f"The key is apart, in {visible(str(study.key))}: lock it away.")
    show(f"Next: crepitus serve --phone --study {visible(str(folder))}")


@study_command.command(epilog="Example: crepitus study check my_study")
@_study
@json_option
def check(study: Study, as_json: bool) -> None:
    """Say what is missing, what was recorded otherwise than planned, and where speech is heard.

    Exit code 1 when a recording is lost, cannot be read, or is not the one that was made.
    """
    from audio_pipeline.app.study_archive import check_study

    with steps() as progress:
        found = check_study(study, progress)
    if as_json:
        show_json(asdict(found))
    else:
        show(
            f"{found.people} people, {found.sessions} sessions, {found.takes} takes;"
            f" {len(found.problems)} things to look at."
        )
        for one in found.problems:
            show(f"{one.code:16}{visible(one.where)}: {visible(one.text)}")
    if found.broken:
        raise click.exceptions.Exit(1)


@study_command.command(epilog="Example: crepitus study export my_study -o archive --mute-speech")
@_study
@output_folder("Folder for the archive")
@click.option(
    "--mute-speech",
    is_flag=True,
    help="Put silence where speech may be heard, except in sounds labelled pop or grating.",
)
@json_option
def export(study: Study, folder: Path, mute_speech: bool, as_json: bool) -> None:
    """Write the pseudonymous archive of those who said yes to sharing.

    FLAC, labels, answers with ages in ten years, no dates and no names; manifest.csv that
    `crepitus train` reads, Croissant metadata, a REDCap data dictionary and a data card. Whoever
    left the study is in none. Exit code 1 when a recording cannot be read or was changed.
    """
    from audio_pipeline.app.study_archive import export_study

    with steps() as progress:
        written = export_study(study, folder, mute_speech=mute_speech, progress=progress)
    if as_json:
        show_json(asdict(written))
    else:
        labels = ", ".join(f"{count} {visible(one)}" for one, count in written.labels.items())
        show(
            f"{written.takes} takes of {len(written.people)} people in {visible(str(folder))};"
            f" labels: {labels or 'none yet'}."
        )
        for name, reason in written.left_out.items():
            show(f"Left out: {visible(name)}: {visible(reason)}.")
    if any("/" in name for name in written.left_out):
        raise click.exceptions.Exit(1)


@study_command.command(
    epilog="Example: crepitus study withdraw my_study pk3m7xq --delete --models my_models"
)
@_study
@click.argument("person", metavar="CODE")
@click.option("--delete", is_flag=True, help="Also delete their takes and answers, for good.")
@click.option(
    "--models",
    "places",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where to look for models that learnt from them; the folder around the study is, too.",
)
@json_option
def withdraw(
    study: Study, person: str, delete: bool, places: tuple[Path, ...], as_json: bool
) -> None:
    """Take a person out of every later export, and name the models and archives that hold them."""
    from audio_pipeline.app.study import models_that_saw

    searched = [study.folder.absolute().parent, *places]
    models = models_that_saw(study, person, searched)
    deleted = study.withdraw(person, delete=delete)
    archives = [
        row["archive"] for row in study.exports() if person in row["participants"].split(";")
    ]
    if as_json:
        show_json(
            {
                "withdrawn": person,
                "deleted": [str(path) for path in deleted],
                "models": [str(path) for path in models],
                "archives": archives,
                "searched": [str(place) for place in searched],
            }
        )
        return
    show(f"{visible(person)} is in no later export. Deleted: {len(deleted)} files.")
    for path in models:
        show(f"This model learnt from them; make it again without them: {visible(str(path))}")
    for name in archives:
        show(f"This archive holds them; ask everybody who has it to delete them: {visible(name)}")
    places_text = ", ".join(visible(str(place)) for place in searched)
    show(f"Models were looked for in {places_text}; elsewhere there may be others.")


@study_command.command(epilog="Example: crepitus study status my_study --width 0.1 --plot plan.png")
@_study
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="TABLE.csv",
    help="Plan for the share of right answers in what `train --predictions` wrote; by default for "
    "the share of takes with a labelled pop or grinding sound.",
)
@click.option(
    "--width",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Wanted width of the 95 % interval.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also draw the curve, as .png or .svg.",
)
@overwrite_option
@json_option
def status(
    study: Study,
    predictions: Path | None,
    width: float,
    plot: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Say how far a study is, and how many people it needs: people count, not clips.

    From three people on, a simulation draws studies of more people like those of the pilot and
    says how wide the 95 % interval would be.
    """
    from audio_pipeline.model.metrics import plan_people

    if plot is not None:
        check_output(plot, endings=(".png", ".svg"), inputs=[predictions], overwrite=overwrite)
    counts = _counts(study)
    what, hits, tries = _pilot(study, predictions)
    plan = plan_people(hits, tries, width) if len(tries) > 2 else None
    if as_json:
        show_json({**counts, "planned_for": what, "plan": asdict(plan) if plan else None})
    else:
        show(
            f"{counts['people']} people, {counts['research']} gave to research and"
            f" {counts['share']} to sharing; {counts['withdrawn']} left."
        )
        show(
            f"{counts['sessions']} sessions, {counts['takes']} takes,"
            f" {counts['minutes']:.1f} minutes, {counts['labels']} labels."
        )
        if plan is None:
            show(f"No plan yet: {what} is known of {len(tries)} people; three are the least.")
        else:
            show(
                f"{what}: {plan.share:.2f} in {plan.people} people (how alike the sounds of a"
                f" person are: {plan.icc:.2f} of 1)."
            )
            show(
                f"For a 95 % interval {width:g} wide: about {plan.needed} people; another pilot"
                f" like this would have said {plan.needed_low} to {plan.needed_high}."
            )
            widest = max(high for _, _, _, high in plan.curve)
            for people, expected, low, high in plan.curve:
                bar = "#" * max(1, round(40 * expected / widest))
                mark = " <= wanted" if expected <= width else ""
                show(f"{people:5} people  {bar:40} {expected:.3f} ({low:.3f}-{high:.3f}){mark}")
    if plot is not None and plan is not None:
        from audio_pipeline.app.reporting.plots import plan_chart

        drawn = plan_chart(what, width, plan.curve, plot.suffix.lower().removeprefix("."))
        if not drawn:
            raise CrepitusError('a plot needs matplotlib: pip install "crepitus[report]"')
        with replaced(plot) as file:
            file.write(drawn)
        show(f"Drawn: {visible(str(plot))}", err=True)


def _counts(study: Study) -> dict[str, Any]:
    from audio_pipeline.app.study_archive import labelled_stretches

    people = study.participants()
    consents = [one for code, one in study.consents().items() if code in people]
    notes = [take.note for take in study.takes()]
    return {
        "people": len(people),
        "research": sum(one.research for one in consents),
        "share": sum(one.share for one in consents),
        "withdrawn": len(study.withdrawn()),
        "sessions": len({(note.participant, note.session) for note in notes}),
        "takes": len(notes),
        "minutes": round(sum(note.duration for note in notes) / 60, 1),
        "labels": sum(map(len, labelled_stretches(study).values())),
    }


def _pilot(study: Study, predictions: Path | None) -> tuple[str, Ints, Ints]:
    """Return what is planned for, and the hits and tries of each person."""
    import numpy as np

    from audio_pipeline.analysis.events import JOINT_LABELS
    from audio_pipeline.app.study_archive import labelled_stretches

    found: dict[str, list[bool]] = {}
    if predictions is not None:
        what = "Share of right answers"
        for row in read_table(predictions, ("group", "label", "answer")):
            found.setdefault(row["group"], []).append(row["answer"] == row["label"])
    else:
        what = "Share of takes with a labelled pop or grinding sound"
        labelled = labelled_stretches(study)
        for take in study.takes() if labelled else ():
            clips = labelled.get(os.path.realpath(take.path), ())
            heard = any(clip.label in JOINT_LABELS for clip in clips)
            found.setdefault(take.note.participant, []).append(heard)
    hits = np.array([sum(one) for one in found.values()], dtype=np.int64)
    return what, hits, np.array([len(one) for one in found.values()], dtype=np.int64)
