"""Shared settings of all tests."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))


def pytest_sessionfinish(session, exitstatus):
    """Under ATTN8_NO_SKIP=1 a run that skipped anything has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("ATTN8_NO_SKIP") == "1" and reporter and reporter.stats.get("skipped") and not exitstatus:
        session.exitstatus = 1
