"""The program `attn8` in the process of the tests: quick, and what a test has replaced stays replaced."""

import json

from click.testing import CliRunner

from attn8.cli import cli


def attn8(*arguments, **options):
    """Runs a verb; options are those of CliRunner.invoke. Returns (exit code, stdout, stderr)."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), **options)
    return done.exit_code, done.stdout, done.stderr


def told(*arguments):
    """Returns what a verb that succeeds prints with --json."""
    code, out, error = attn8(*arguments, "--json")
    assert code == 0, error
    return json.loads(out)
