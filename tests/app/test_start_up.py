"""Commands that hear nothing wait for nothing: neither librosa nor scikit-learn is loaded."""

from __future__ import annotations

import subprocess
import sys


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
