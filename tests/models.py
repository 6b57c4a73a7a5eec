"""The random models, by their old name; they travel with the package, for the tests on boards."""

import sys

from attn8 import random_models

sys.modules[__name__] = random_models
