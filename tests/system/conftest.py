"""What several tests of boards begin with. A file that wants another board has fixtures of its own by these names."""

import pytest

from attn8.boards import install
from pty_board import Board


@pytest.fixture(scope="session")
def flash():
    """The file system of a board with attn8 on it."""
    with Board() as board:
        install.install(board.port, pure=True)
        return board.flash()


@pytest.fixture
def board(flash):
    """A board with attn8 on it, and nothing else."""
    with Board(flash=flash) as board:
        yield board
