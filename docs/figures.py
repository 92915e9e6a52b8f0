"""One set of figures: write what ``docs/evaluation.json`` says into the documents.

``python docs/figures.py`` puts the figures between their marks in every document; ``--check``
only says which differ (a test does that too). ``--model --command '...'`` first makes
``docs/evaluation.json`` of ``models/default/evaluation.json``, which ``crepitus train`` measured
out of fold; ``--clips FILE [--takes FILE] --command '...'`` of what ``evaluate --json`` printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EVALUATION = ROOT / "docs" / "evaluation.json"
MODEL = ROOT / "models" / "default"
DOCUMENTS = ("README.md", "docs/recognition.md")
NOTEBOOKS = ("notebooks/2_classify_a_folder.ipynb", "notebooks/why_recognition_fails.ipynb")
KEPT = (
    *("schema_version", "software", "model", "date", "command", "scheme", "metrics", "unweighted"),
    *("doubtful", "takes", "trade", "labels", "kinds", "confusion", "risk_coverage", "shortcut"),
)
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

Figures = Mapping[str, Any]


def share(value: float | None, digits: int = 2) -> str:
    """Return a figure as ``.68``."""
    return "none" if value is None else f"{value:.{digits}f}".removeprefix("0")


def percent(value: float | None) -> str:
    """Return a share in whole per cent, with one decimal below ten."""
    if value is None:
        return "none"
    return f"{100 * value:.1f} %" if 0 < value < 0.0995 else f"{100 * value:.0f} %"


def with_interval(figures: Figures, name: str, text: Callable[[float | None], str]) -> str:
    """Return a figure with its interval, where it has one."""
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    interval = "" if low is None else f" [{text(low)}, {text(high)}]"
    return text(figures.get(name)) + interval


def summary(given: Figures) -> str:
    """Return the paragraph of the README."""
    m, takes = given["metrics"], given["takes"]
    words = [
        f"On {m['n_cases']:,} clips from {m['n_groups']} groups of sources, each judged by a model "
        "made in the same way without its group, "
        f"every kind of sound weighing alike, it answers {percent(m['coverage'])} with a balanced "
        f"accuracy of {share(m['balanced_accuracy'])} (95 % interval "
        f"{share(m['balanced_accuracy_low'])} to {share(m['balanced_accuracy_high'])}; three "
        "labels, so guessing gives .33). It is sure of "
        f"{percent(m['gratings_found'])} of the grinding sounds and of "
        f"{percent(m['pops_found'])} of the pops; of what it surely calls a pop "
        f"{percent(m['pop_precision'])} are pops. Of the everyday sounds near a person "
        f"{percent(m['near_false_gratings'])} are called a grinding sound and "
        f"{percent(m['near_false_pops'])} a pop."
    ]
    if takes:
        words.append(
            f"In {takes['count']} recordings of 20 seconds put together from such clips, a third "
            f"of them without any joint sound, the answer is right and sure in "
            f'{percent(takes["right"])}, "cannot tell" in {percent(takes["uncertain"])}, '
            f"names one of two sounds in {percent(takes['partly'])}, misses the sound in "
            f"{percent(takes['missed'])} and is wrong in {percent(takes['wrong'])}; "
            f"{percent(takes['false_grating'])} of those without a grinding sound are said to hold "
            "one."
        )
    return _wrapped(" ".join(words))


def source(given: Figures) -> str:
    """Say where the figures are from."""
    model = given["model"]
    return _wrapped(
        f"Measured on {given['date']}: model {model['name']} ({model['sha256'][:12]}); "
        f"{given['metrics']['scheme']}: `{given['command']}`"
    )


def table(given: Figures) -> str:
    """Return the headline figures with their intervals."""
    m, plain = given["metrics"], given["unweighted"]
    rows = [
        ("macro AUC over all clips", "auc", share),
        ("balanced accuracy, every clip answered", "recording_balanced_accuracy", share),
        ("balanced accuracy of what is answered", "balanced_accuracy", share),
        ("share answered", "coverage", percent),
        ("strict: no answer counts as an error", "strict_balanced_accuracy", share),
        ("sure gratings found", "gratings_found", percent),
        ("sure pops found", "pops_found", percent),
        ("precision of sure gratings", "grating_precision", percent),
        ("precision of sure pops", "pop_precision", percent),
        ("pop against grating, given an answer of these", "pop_against_grating", share),
        ("near a person: false grating", "near_false_gratings", percent),
        ("near a person: false pop", "near_false_pops", percent),
        ("far from a person: false grating", "far_false_gratings", percent),
        ("far from a person: false pop", "far_false_pops", percent),
        ("calibration error of events", "ece", share),
        ("recording conditions alone (no sound heard)", "shortcut_balanced_accuracy", share),
    ]
    lines = ["| | every kind alike, 95 % interval | every clip alike |", "|---|---|---|"]
    lines += [
        f"| {text} | {with_interval(m, name, form)} | "
        f"{form(plain[name]) if plain.get(name) is not None else ''} |"
        for text, name, form in rows
        if m.get(name) is not None
    ]
    doubt = given["doubtful"]
    if doubt["n_cases"]:
        lines += [
            "",
            f"Not counted: {doubt['n_cases']} clips whose label is in doubt (balanced accuracy "
            f"{share(doubt['balanced_accuracy'])} at {percent(doubt['coverage'])}).",
        ]
    return "\n".join(lines)


def curve(given: Figures) -> str:
    """Return the trade of coverage against accuracy."""
    points = [one for one in given["risk_coverage"] if round(100 * one["coverage"]) >= 30][::2]
    cells = [[percent(one["coverage"]) for one in points]]
    cells.append([share(one["balanced_accuracy"]) for one in points])
    names = ("only the surest answered", "balanced accuracy")
    rows = [f"| {name} | {' | '.join(row)} |" for name, row in zip(names, cells, strict=True)]
    return "\n".join([rows[0], "|---" * (len(points) + 1) + "|", rows[1]])


def trade(given: Figures) -> str:
    """Return what more or less caution gives."""
    if not given.get("trade"):
        return "Not measured."
    columns = {
        "takes: right": "right",
        "missed": "missed",
        "wrong": "wrong",
        "false grating": "grating",
        "gratings found": "gratings_found",
        "pops found": "pops_found",
        "near: false grating": "near_grating",
        "near: false pop": "near_pop",
    }
    lines = [f"| budgets | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in given["trade"]:
        cells = [percent(row[name]) for name in columns.values()]
        lines.append(f"| x {row['budgets']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def kinds(given: Figures) -> str:
    """Return what each kind of sound is taken for."""
    names = ["pop", "grating", "other", "unsure"]
    lines = [
        f"| label: kind | clips | groups | {' | '.join(names)} |",
        "|---" * (len(names) + 3) + "|",
    ]
    for row in given["kinds"]:
        near = "" if row["near"] is None else " (near)" if row["near"] else " (far)"
        cells = [percent(row["taken_for"].get(name)) for name in names]
        what = f"{row['label']}: {row['kind'].replace('_', ' ')}"
        what += near if row["label"] == "other" else ""
        lines.append(f"| {what} | {row['count']} | {row['groups']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def takes(given: Figures) -> str:
    """Return how often findings on takes are right."""
    scores = given["takes"]
    if not scores:
        return "Not measured."
    titles = {"guided": {"yes": "guided", "no": "free"}}
    rows = [("all", scores)]
    for name, parts in scores["by"].items():
        for part in parts:
            title = titles.get(name, {}).get(part["name"], part["name"].replace("_", " "))
            rows.append((f"{title} dB" if name == "take_snr" else title, part))
    if scores.get("without_protocol"):
        rows.insert(3, ("guided, had nobody known when", scores["without_protocol"]))
    names = ("right", "partly", "uncertain", "missed", "wrong", "false_grating")
    lines = [
        "| takes | number | surely right | one of two | cannot tell | missed | wrong | "
        "false grating, where there is none |",
        "|---" * (len(names) + 2) + "|",
    ]
    for title, part in rows:
        form = (
            (lambda name, part=part: with_interval(part, name, percent))
            if (title == "all")
            else (lambda name, part=part: percent(part[name]))
        )
        cells = ["" if part[name] is None else form(name) for name in names]
        lines.append(f"| {title} | {part['count']} | {' | '.join(cells)} |")
    return "\n".join(lines)


GRATING_LIMIT, POP_LIMIT = 0.01, 0.05
"""Largest share of a kind of everyday sound with a false grating, and with a false pop."""

GOALS = (
    ("macro AUC over all clips", "metrics", "auc", 0.90, 0.86, share),
    ("balanced accuracy of what is answered", "metrics", "balanced_accuracy", 0.85, 0.72, share),
    ("share answered", "metrics", "coverage", 0.70, 0.60, percent),
    ("sure gratings found", "metrics", "gratings_found", 0.50, 0.20, percent),
    ("near a person: false grating", "metrics", "near_false_gratings", -0.01, -0.01, percent),
    ("near a person: false pop", "metrics", "near_false_pops", -0.05, -0.05, percent),
    ("takes: surely right", "takes", "right", 0.60, 0.45, percent),
    ("takes: wrong", "takes", "wrong", -0.08, -0.12, percent),
    (
        "takes: false grating in those without",
        "takes",
        "false_grating",
        -0.015,
        -0.025,
        percent,
    ),
)
"""What is aimed at and what is the least, from where; negative: at most this."""

FEW = 3
"""Kinds of fewer clips are not named."""

_WORDS = {
    "key": "key presses",
    "click": "clicks",
    "clap": "claps",
    "tap": "taps",
    "clock": "clocks",
    "coin": "coins",
    "switch": "switches",
    "door": "doors",
    "drawer": "drawers",
    "knock": "knocks",
    "thud": "thuds",
    "footstep": "footsteps",
    "mechanical": "latches and ratchets",
    "plastic_rustle": "rustling plastic",
    "misc": "sounds of no clear kind",
    "mouse": "mouse clicks",
    "cough": "coughs",
    "baby": "babies",
    "fan": "fans",
    "zip": "zips",
    "gravel_step": "steps on gravel",
    "leaves": "leaves",
    "knuckle": "knuckles on wood",
    "scrape": "scrapes",
    "saw": "saws",
    "creak": "creaks",
    "rattle": "rattles",
    "egg": "eggs",
}


def failing(given: Figures) -> tuple[dict[str, float], dict[str, float]]:
    """Return the kinds of everyday sound over a limit, with their share: gratings, pops."""
    rows = [row for row in given["kinds"] if row["label"] == "other"]
    gratings = {row["kind"]: row["sure_grating"] for row in rows}
    pops = {row["kind"]: row["sure_pop"] for row in rows}
    return (
        {kind: one for kind, one in gratings.items() if one > GRATING_LIMIT},
        {kind: one for kind, one in pops.items() if one > POP_LIMIT},
    )


def limits(given: Figures) -> str:
    """Name the kinds of everyday sound that fail, as a person would call them."""
    sentences = [
        "Its limits: of every kind of everyday sound at most 1 % may be called a grinding sound "
        "and at most 5 % a pop."
    ]
    for name, kinds_over in zip(("a grinding sound", "a pop"), failing(given), strict=True):
        ranked = sorted(kinds_over.items(), key=lambda item: (-item[1], item[0]))
        listed = [f"{word(kind)} ({percent(one)})" for kind, one in ranked]
        said = (
            f"Over the limit for {name}: {', '.join(listed)}."
            if listed
            else (f"No kind is over the limit for {name}.")
        )
        sentences.append(said)
    for label, name in (("grating", "grinding sounds"), ("pop", "pops")):
        never = [
            f"{word(row['kind'])} ({row['count']})"
            for row in given["kinds"]
            if row["label"] == label and not row[f"sure_{label}"] and row["count"] >= FEW
        ]
        if never:
            sentences.append(f"Of these {name} it is never sure: {', '.join(never)}.")
    return _wrapped(" ".join(sentences))


def word(kind: str) -> str:
    """Return what a person calls a kind."""
    return _WORDS.get(kind, kind.replace("_", " "))


def reached(given: Figures) -> list[tuple[str, str, str, str, bool, bool]]:
    """Return each goal with its least, what was reached, and whether either holds."""
    rows = []
    for text, part, name, goal, least, form in GOALS:
        value = (given[part] or {}).get(name)
        if value is None:
            continue
        signed = value if goal > 0 else -value
        bound = "at least" if goal > 0 else "at most"
        rows.append(
            (
                text,
                f"{bound} {form(abs(goal))}",
                f"{form(abs(least))}",
                form(value),
                signed >= goal,
                signed >= least,
            )
        )
    return rows


def goals(given: Figures) -> str:
    """Return the release gate on real clips and takes."""
    lines = ["| | goal | least | reached | |", "|---|---|---|---|---|"]
    for text, goal, least, value, met, enough in reached(given):
        verdict = "holds" if met else "least only" if enough else "**fails**"
        lines.append(f"| {text} | {goal} | {least} | {value} | {verdict} |")
    return "\n".join(lines)


BLOCKS: Mapping[str, Callable[[Figures], str]] = {
    "summary": summary,
    "source": source,
    "table": table,
    "curve": curve,
    "trade": trade,
    "kinds": kinds,
    "takes": takes,
    "limits": limits,
    "goals": goals,
}


def refreshed(text: str, given: Figures) -> str:
    """Return a document with its figures put between their marks."""

    def put(match: re.Match[str]) -> str:
        return match[1] + BLOCKS[match[2]](given) + "\n" + match[3]

    return _BLOCK.sub(put, text)


def refreshed_notebook(text: str, given: Figures) -> str:
    """Return a notebook with the figures in its text cells refreshed."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            new = refreshed("".join(cell["source"]), given)
            cell["source"] = new.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def documents(given: Figures) -> dict[Path, tuple[str, str]]:
    """Return the text of every document as it is and as it should be."""
    texts = {}
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        texts[ROOT / name] = (text, refreshed(text, given))
    for name in NOTEBOOKS:
        text = (ROOT / name).read_text(encoding="utf-8")
        if "<!-- figures:" in text:
            texts[ROOT / name] = (text, refreshed_notebook(text, given))
    return texts


def _wrapped(text: str, width: int = 116) -> str:
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def main() -> int:
    """Refresh or check the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, say what differs")
    parser.add_argument("--model", action="store_true", help="take the figures of the model folder")
    parser.add_argument("--clips", type=Path, help="`evaluate --json` on clips")
    parser.add_argument("--takes", type=Path, help="`evaluate --json` on takes")
    parser.add_argument("--command", default="", help="what was run")
    given = parser.parse_args()
    if given.clips or given.model:
        path = MODEL / "evaluation.json" if given.model else given.clips
        measured = json.loads(path.read_text(encoding="utf-8"))
        if given.model:
            description = (MODEL / "model.json").read_bytes()
            digest = hashlib.sha256(description).hexdigest()
            measured["model"] = {"name": json.loads(description)["name"], "sha256": digest}
        measured |= {"date": date.today().isoformat(), "command": given.command}
        if given.takes:
            measured["takes"] = json.loads(given.takes.read_text(encoding="utf-8"))["takes"]
        kept = {name: measured[name] for name in KEPT if name in measured}
        EVALUATION.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    changed = []
    for path, (old, new) in documents(json.loads(EVALUATION.read_text(encoding="utf-8"))).items():
        if old != new:
            changed.append(path)
            if not given.check:
                path.write_text(new, encoding="utf-8")
    for path in changed:
        print(("differs: " if given.check else "refreshed: ") + str(path.relative_to(ROOT)))
    return int(given.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
