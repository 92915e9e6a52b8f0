"""Run the command line with ``python -m audio_pipeline``."""

from audio_pipeline.cli import main

main()
