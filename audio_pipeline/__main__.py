"""Run the command line with ``python -m audio_pipeline``."""

from audio_pipeline.app.cli import main

main()
