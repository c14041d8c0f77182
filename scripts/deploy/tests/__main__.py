"""Tries the scripts of scripts/deploy against what plays AWS, GitHub and Terraform.

    python3 -m venv venv && venv/bin/pip install -r scripts/deploy/tests/requirements.txt
    venv/bin/python scripts/deploy/tests [NAME...]     only the tests whose name contains one of NAME
"""

import logging
import sys
import unittest
from pathlib import Path

logging.getLogger("werkzeug").setLevel(logging.ERROR)  # A line for each request.
loader = unittest.TestLoader()
loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[1:]] or None
tests = loader.discover(str(Path(__file__).parent))
sys.exit(not unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful())
