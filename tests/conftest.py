"""Shared settings of all tests."""

import os
import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell; Ctrl-C is tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))


def pytest_sessionfinish(session, exitstatus):
    """Under ATTN8_NO_SKIP=1 a run that skipped anything but what is run by hand has failed."""
    from tools import BY_HAND

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("ATTN8_NO_SKIP") == "1" and any(BY_HAND not in r.longrepr[2] for r in skipped) and not exitstatus:
        session.exitstatus = 1
