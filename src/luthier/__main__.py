"""python -m luthier, and the command `luthier`: Ctrl-C ends it quietly, also while it is still being loaded."""

import signal


def run() -> None:
    """Runs the command line. Until the imports are done Ctrl-C ends the process at once, without a traceback.

    Changes the process's SIGINT handler for that time only, and not where the parent process has it ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # nohup has it ignored, and so it stays
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from luthier.cli.main import app

    signal.signal(signal.SIGINT, before)
    app()


if __name__ == "__main__":
    run()
