"""Commands that hear nothing wait for nothing: neither librosa nor scikit-learn is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from audio_pipeline.audio.recording import Recording, write_recording
from tests.made_sounds import background, with_impacts


def test_quick_commands_load_no_heavy_library() -> None:
    code = (
        "import contextlib, io, sys\n"
        "from audio_pipeline.app.cli import main\n"
        "commands = [['--help'], ['--version'], ['analyze', '--help'], ['questions'],\n"
        "            ['devices', '--json'], ['triage', '--json', '--answers', '-']]\n"
        "for command in commands:\n"
        "    sys.argv = ['crepitus', *command]\n"
        "    sys.stdin = io.StringIO('{}')\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main()\n"
        "    slow = {'librosa', 'sklearn', 'scipy', 'numba', 'skops', 'matplotlib', 'av'}\n"
        "    print(command[0], sorted(slow & sys.modules.keys()))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.endswith("[]") for line in lines), lines


@pytest.mark.slow
def test_analysing_needs_no_pandas_and_leaves_it_for_others(tmp_path: Path) -> None:
    recording = tmp_path / "clicks.wav"
    write_recording(
        recording, Recording(with_impacts(background("pink", 1, 44_100), [0.5], 44_100), 44_100)
    )
    code = (
        "import contextlib, io, sys\n"
        "from audio_pipeline.app.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main(['analyze', {str(recording)!r}, '--json'])\n"
        "print('sklearn' in sys.modules, 'pandas' in sys.modules)\n"
        "import pandas\n"
        "print(pandas.DataFrame({'a': [1]}).shape)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["True False", "(1, 1)"]
